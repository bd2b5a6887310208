//! Columns and their order are chosen by the names of the cockpit.

use super::{super::table::lay_out, *};

fn list(columns: Option<&str>) -> RowListArgs {
    RowListArgs { filter: None, sort: None, reverse: false, columns: columns.map(str::to_owned), max: None }
}

#[test]
fn columns_are_chosen_by_name() {
    let names = |text| {
        let columns = columns(&list(text), Role::Server);
        columns.map(|columns| columns.iter().map(|(name, ..)| *name).collect::<Vec<_>>())
    };
    assert_eq!(names(Some("age, stream")).unwrap(), ["age", "stream"]);
    assert_eq!(names(None).unwrap().join(","), DEFAULT_COLUMNS);
    let error = names(Some("stream,speed")).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("unknown column «speed»; expected: stream,state"), "{error}");
}

#[test]
fn figures_are_aligned_to_the_right_and_lines_cut_at_the_width() {
    let rows = [["a", "1"], ["bb", "1000"]].map(|row| row.map(str::to_owned).to_vec());
    let headings = [text("NAME"), figure("N")];
    assert_eq!(lay_out(&headings, &rows, None), ["NAME     N", "a        1", "bb    1000"]);
    assert_eq!(lay_out(&headings, &rows, Some(6)), ["NAME …", "a    …", "bb   …"]);
}
