//! Suggestions for misspelled names.

/// Returns the known name closest to `name`, where it is at most two edits (Damerau-Levenshtein) away.
pub(crate) fn near_miss(name: &str, known: impl IntoIterator<Item = String>) -> Option<String> {
    let by_distance = known.into_iter().map(|known| (strsim::damerau_levenshtein(name, &known), known));
    by_distance.filter(|(distance, _)| *distance <= 2).min().map(|(_, known)| known)
}
