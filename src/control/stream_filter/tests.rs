//! Tests of the parsing of filters.

use super::*;

#[test]
fn an_invalid_filter_says_what_is_expected() {
    for (text, why) in [
        ("host:a", "unknown field host:; expected: key: state: service: proxy: user: content: pri:"),
        ("speed>1", "unknown figure speed; expected: down up down-bytes up-bytes bytes size age"),
        ("down>fast", "invalid value «fast»; expected: down>1M, age<30s"),
        ("/(/", "invalid regex: unclosed group"),
    ] {
        assert_eq!(StreamFilter::parse(text).unwrap_err().to_string(), why);
    }
    for text in
        ["", "  ", "!", "edge", "3F9A1C:2", "[::1]:80", "10.0.0.1:443", "a /b c/ d", "down>=1.5M", "/"]
    {
        StreamFilter::parse(text).unwrap();
    }
}

#[test]
fn a_regex_with_blanks_is_one_term() {
    assert_eq!(split_terms("a !/b c/ d>1"), ["a", "!/b c/", "d>1"]);
    assert_eq!(split_terms("/open x"), ["/open", "x"]);
    assert_eq!((amount("1.5k"), seconds("2m"), amount("x")), (Some(1500.0), Some(120.0), None));
}

#[test]
fn a_value_in_quotes_is_one_word_and_text_with_an_equals_sign_is_a_word() {
    assert_eq!(split_terms("proxy=\"my laptop\" down>1"), ["proxy=\"my laptop\"", "down>1"]);
    assert_eq!(split_terms("!proxy:\"my laptop"), ["!proxy:\"my laptop"]);
    assert_eq!(split_terms("say\"ing so"), ["say\"ing", "so"]);
    let exact = |text| matches!(parse_condition(text), Ok(FilterCondition::FieldIs(..)));
    assert!(exact("proxy=edge-1") && exact("PORT=8080") && exact("user=10.0.0.1:4000"));
    assert!(!exact("id=5") && !exact("content:?proxy=x") && !exact("down>=1M"));
}

/// Compiled, a short expression may be as large as memory.
#[test]
fn a_regex_that_is_too_large_is_refused() {
    for text in ["/a{1000}{1000}{1000}/", "/(\\w{500}){500}/"] {
        let error = StreamFilter::parse(text).unwrap_err().to_string();
        assert!(error.starts_with("invalid regex"), "{error}");
    }
}
