//! Decimal numbers, read exactly: amounts of money and temperatures are whole numbers of a smaller
//! unit, never floating point.

/// Decimals of an amount of money: millionths.
pub const MONEY_DECIMALS: u32 = 6;
/// Decimals of a temperature: thousandths.
pub const TEMPERATURE_DECIMALS: u32 = 3;

/// A decimal number such as `1.50` in units of its last possible digit: with six decimals
/// `1500000`.
/// `None` if it is not plain digits with at most one point, has more decimals, or is too large.
pub fn scaled(text: &str, decimals: u32) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_point = whole.len() != text.len();
    let missing = decimals.checked_sub(u32::try_from(part.len()).ok()?)?;
    if whole.is_empty() || (has_point && part.is_empty()) || !digits(whole) || !digits(part) {
        return None;
    }
    let part = if part.is_empty() { 0 } else { part.parse::<u64>().ok()? };
    let part = part.checked_mul(10_u64.checked_pow(missing)?)?;
    whole.parse::<u64>().ok()?.checked_mul(10_u64.checked_pow(decimals)?)?.checked_add(part)
}

/// Such a number as text, with at least `shown` decimals and no needless zeros behind them.
pub fn unscaled(number: u64, decimals: u32, shown: usize) -> String {
    let unit = 10_u64.saturating_pow(decimals);
    let part = format!("{:0width$}", number % unit, width = decimals as usize);
    let part = part.trim_end_matches('0');
    let part = format!("{part:0<shown$}");
    let whole = number / unit;
    if part.is_empty() { whole.to_string() } else { format!("{whole}.{part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly_or_not_at_all() {
        for (text, micros) in [
            ("0", 0),
            ("3", 3_000_000),
            ("0.3", 300_000),
            ("3.75", 3_750_000),
            ("0.000001", 1),
            ("007.10", 7_100_000),
        ] {
            assert_eq!(scaled(text, MONEY_DECIMALS), Some(micros), "{text}");
        }
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "1,5",
            "0.0000001",
            "1.2.3",
            "x",
            " 1",
            "99999999999999999999",
        ] {
            assert_eq!(scaled(text, MONEY_DECIMALS), None, "{text}");
        }
        assert_eq!(scaled("0.15", TEMPERATURE_DECIMALS), Some(150));
        assert_eq!(scaled("18446744073709.551615", MONEY_DECIMALS), Some(u64::MAX));
        assert_eq!(scaled("18446744073709.551616", MONEY_DECIMALS), None);
    }

    #[test]
    fn amounts_are_shown_as_people_write_them() {
        for (micros, text) in [
            (0, "0.00"),
            (1_500_000, "1.50"),
            (1_234_567, "1.234567"),
            (70_000, "0.07"),
            (1, "0.000001"),
        ] {
            assert_eq!(unscaled(micros, MONEY_DECIMALS, 2), text);
        }
        assert_eq!(unscaled(3_000_000, MONEY_DECIMALS, 0), "3");
    }
}
