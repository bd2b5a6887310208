//! Keys keep their lines, and values the text that an option's parser reads.

use super::*;

/// Returns the name, the line and the value of each key.
fn keys(table: &RawTable) -> Vec<(&str, usize, &RawValue)> {
    table.keys.iter().map(|key| (&key.name[..], key.line, &key.value)).collect()
}

#[test]
fn numbers_and_dates_are_text_and_keys_have_lines() {
    let text = "# comment\nwait = 5\nratio = 0.5\nhex = 0x1_0\n\nday = 2027-12-31\nname = \"\"\"\nx\"\"\"\n'ports' = [1, \"2-3\"]\non = true\n";
    let table = RawTable::parse(text).unwrap();
    let value = |text: &str| RawValue::Text(text.to_owned());
    assert!(
        keys(&table)
            == [
                ("wait", 2, &value("5")),
                ("ratio", 3, &value("0.5")),
                ("hex", 4, &value("16")),
                ("day", 6, &value("2027-12-31")),
                ("name", 7, &value("x")),
                ("ports", 9, &RawValue::List(vec!["1".to_owned(), "2-3".to_owned()])),
                ("on", 10, &RawValue::Switch(true)),
            ],
        "{table:?}"
    );
}

#[test]
fn tables_have_the_lines_of_their_headers() {
    let table = RawTable::parse("a = 1\n\n[[proxy]]\nname = \"x\"\n\n[[proxy]]\n").unwrap();
    let Some(RawKey { value: RawValue::Tables(tables), .. }) = table.get("proxy") else { panic!() };
    assert_eq!(tables.iter().map(|table| table.line).collect::<Vec<_>>(), [3, 6]);
    assert_eq!(tables[0].keys[0].line, 4);
    for (text, what) in [("a = {}", "a table"), ("a = [[1]]", "a list of lists"), ("a = [1, true]", "mixed")]
    {
        let table = RawTable::parse(text).unwrap();
        let RawValue::Other(kind) = table.keys[0].value else { panic!("{text}") };
        assert!(kind.contains(what), "{kind}");
    }
}

#[test]
fn every_line_that_is_no_toml_is_named_without_its_value() {
    let error = RawTable::parse("a = \"secret\nb = 1\nc = secret\nb = 2\n").unwrap_err();
    let lines: Vec<_> = error.0.iter().filter_map(|mistake| mistake.line).collect();
    assert!([1, 3, 4].iter().all(|line| lines.contains(line)), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn what_is_there_twice_is_named_with_what_to_write() {
    let error = |text: &str| {
        let error = RawTable::parse(text).unwrap_err();
        error.0.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let keys = error("a = 1\nb = 2\na = 3\n");
    assert!(keys.len() == 1 && keys[0].starts_with("line 3: a: it is there twice: leave one"), "{keys:?}");
    // The keys of the second table are no mistakes of their own.
    let tables = error("[proxy]\nname = 1\n\n[proxy]\nname = 2\nports = [1]\n[proxy]\nname = 3\n");
    let expected = "[proxy]: it is there twice: write each with two pairs of brackets, [[proxy]]";
    assert_eq!(tables, [4, 7].map(|line| format!("line {line}: {expected}")));
    for text in ["listen: 1\n", "listen = 127.0.0.1:1\n", "a b = 1\n"] {
        let error = error(text);
        let hint = "; write KEY = VALUE, one in a line, and texts in quotes";
        assert!(
            error.len() == 1 && error[0].starts_with("line 1: ") && error[0].ends_with(hint),
            "{error:?}"
        );
    }
}

#[test]
fn debug_output_contains_no_value() {
    let debug = format!("{:?}", RawTable::parse("token = \"secret\"").unwrap());
    assert!(debug.contains("token") && !debug.contains("secret"), "{debug}");
}
