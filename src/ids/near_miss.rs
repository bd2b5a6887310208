//! Suggestions for misspelled names.

/// Returns the known name closest to `name`, where it is at most two edits (Damerau-Levenshtein) away.
pub(crate) fn near_miss<T: AsRef<str> + Ord>(name: &str, known: impl IntoIterator<Item = T>) -> Option<T> {
    let by_distance =
        known.into_iter().map(|known| (strsim::damerau_levenshtein(name, known.as_ref()), known));
    by_distance.filter(|(distance, _)| *distance <= 2).min().map(|(_, known)| known)
}
