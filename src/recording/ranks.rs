//! Counters of streams that were in a state before. Mostly these are all of them: by their rank among each other
//! instead of their numbers, the column that names them is a single 1.

use super::{
    batch::{Batch, Counted, MAX_ROWS},
    known::Known,
    unpack_error::Damaged,
};
use crate::feed::Counters;

/// Moves `counters` into the batch, unless a stream is not known, or there are too many.
pub(super) fn pack(known: &Known, batch: &mut Batch, counters: &mut Counters) {
    let mut streams = known.numbers().enumerate();
    let (mut counted, mut last, mut rows) = (Counted::default(), -1, 0);
    for (number, [down, up, ..]) in counters.rows() {
        let rank = streams.find(|(_, known)| *known >= number).filter(|(_, known)| *known == number);
        let Some((rank, _)) = rank.filter(|_| rows < MAX_ROWS) else { return };
        counted.push([down, up, rank as i64 - last]);
        (last, rows) = (rank as i64, rows + 1);
    }
    (batch.counted, *counters) = (counted, Counters::default());
}

/// Returns the counters in the batch, or those that stand elsewhere.
///
/// # Errors
/// There are not as many streams as rows.
pub(super) fn unpack(known: &Known, batch: &Batch, elsewhere: Counters) -> Result<Counters, Damaged> {
    if batch.counted.is_empty() {
        return Ok(elsewhere);
    }
    let mut numbers = known.numbers();
    let rows = (0..batch.counted.down.len()).map(|row| {
        let [down, up, step] = batch.counted.row(row)?;
        let skipped = usize::try_from(step.wrapping_sub(1)).map_err(|_| Damaged)?;
        Ok((numbers.nth(skipped).ok_or(Damaged)?, [down, up, 0, 0]))
    });
    Ok(Counters::of(&rows.collect::<Result<Vec<_>, Damaged>>()?))
}
