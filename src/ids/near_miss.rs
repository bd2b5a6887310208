//! Suggestions for misspelled names.

/// Returns the known name closest to `name`, where it is at most two edits (Damerau-Levenshtein) away.
pub(crate) fn near_miss<T: AsRef<str> + Ord>(name: &str, known: impl IntoIterator<Item = T>) -> Option<T> {
    let by_distance =
        known.into_iter().map(|known| (strsim::damerau_levenshtein(name, known.as_ref()), known));
    by_distance.filter(|(distance, _)| *distance <= 2).min().map(|(_, known)| known)
}

/// Returns `; did you mean «NAME»?` with the [near miss](near_miss); nothing if there is none.
pub(crate) fn near_miss_hint<T: AsRef<str> + Ord>(name: &str, known: impl IntoIterator<Item = T>) -> String {
    near_miss(name, known).map(|near| format!("; did you mean «{}»?", near.as_ref())).unwrap_or_default()
}
