//! The flag `-n N`: a number of rows.

/// Maximum number of rows of a list: more than a journal holds.
pub(crate) const ROWS_MAX: usize = 1_000_000_000;
/// Maximum number of search results: memory for them is allocated in advance.
pub(crate) const RESULTS_MAX: usize = 100_000;

/// Parses a number of rows. 0 is refused like any other number out of range.
pub(crate) fn rows(text: &str) -> Result<usize, String> {
    up_to(ROWS_MAX, text)
}

/// Parses a number of search results.
pub(crate) fn results(text: &str) -> Result<usize, String> {
    up_to(RESULTS_MAX, text)
}

fn up_to(max: usize, text: &str) -> Result<usize, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| is_plain && (1..=max).contains(number));
    number.ok_or_else(|| format!("use a whole number from 1 to {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_rows_is_whole_and_at_least_one() {
        assert_eq!(rows("1"), Ok(1));
        assert_eq!(rows("007"), Ok(7));
        assert_eq!(rows("1000000000"), Ok(ROWS_MAX));
        assert_eq!(results("100000"), Ok(RESULTS_MAX));
        assert!(results("100001").is_err());
        for wrong in [
            "0",
            "00",
            "-1",
            "+1",
            "1.5",
            "1e3",
            "",
            " 1",
            "1 ",
            "ten",
            "٣",
            "0x1",
            "1_000",
            "1000000001",
            "99999999999999999999999",
        ] {
            assert!(rows(wrong).unwrap_err().contains("from 1 to 1000000000"), "{wrong:?}");
        }
    }
}
