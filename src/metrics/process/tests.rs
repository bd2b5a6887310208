//! The figures of this process are those of the system.

use std::fs::File;

use super::ProcessFigures;

#[test]
#[cfg(target_os = "linux")]
fn an_open_file_and_used_time_are_counted() {
    let before = ProcessFigures::read(1_500);
    assert!((before.start - 1.5).abs() < f64::EPSILON);
    assert!(before.resident > Some(1 << 20) && before.virtual_memory > before.resident, "{before:?}");
    assert!(before.threads >= Some(1));
    assert!(before.open_descriptors < Some(before.max_descriptors), "{before:?}");
    // Other tests open and close files meanwhile.
    let files: Vec<File> = (0..200).map(|_| File::open("/dev/null").unwrap()).collect();
    let after = ProcessFigures::read(1_500);
    assert!(after.open_descriptors.unwrap() >= before.open_descriptors.unwrap() + 100, "{after:?}");
    assert!(after.cpu > before.cpu && after.cpu < 100_000.0, "{after:?}");
    drop(files);
}
