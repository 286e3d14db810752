//! Check digits: they tell an account number from any other long number.

/// Luhn's (ISO/IEC 7812-1), over 13 to 19 digits; anything else among them is passed over.
pub(crate) fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    if !(13..=19).contains(&digits.len()) || digits.iter().all(|digit| *digit == 0) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, _) => *digit,
            (_, twice) => twice / 10 + twice % 10,
        })
        .sum();
    // The first digit is the network's: 3 to 6 are banks and travel, 2 is Mastercard's new range.
    sum.is_multiple_of(10) && digits.first().is_some_and(|first| (2..=6).contains(first))
}

/// An IBAN's (ISO 13616): moved round and read as a number, it is 1 modulo 97.
pub(crate) fn is_iban(text: &str) -> bool {
    let all: Vec<char> = text.chars().filter(char::is_ascii_alphanumeric).collect();
    if !(15..=34).contains(&all.len()) {
        return false;
    }
    let (front, back) = all.split_at(4);
    let rest = back.iter().chain(front).try_fold(0, |rest, c| {
        let value = c.to_digit(36)?;
        Some(if value < 10 { (rest * 10 + value) % 97 } else { (rest * 100 + value) % 97 })
    });
    rest == Some(1)
}

/// Not a date, and not the same digit all the way.
pub(crate) fn is_phone(text: &str) -> bool {
    let digits: Vec<char> = text.chars().filter(char::is_ascii_digit).collect();
    let varies = digits.windows(2).any(|pair| pair.first() != pair.last());
    (7..=15).contains(&digits.len()) && varies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_or_moved_digit_is_no_card() {
        for card in ["4111 1111 1111 1111", "5500-0000-0000-0004", "371449635398431"] {
            assert!(is_card(card), "{card}");
            let digits: Vec<char> = card.chars().collect();
            for at in (0..digits.len()).filter(|at| digits[*at].is_ascii_digit()) {
                let mut other = digits.clone();
                other[at] = if digits[at] == '9' { '0' } else { '9' };
                let other: String = other.into_iter().collect();
                assert!(other == card || !is_card(&other), "{other}");
            }
        }
        assert!(!is_card("0000000000000000") && !is_card("411111111111") && !is_card(""));
    }

    #[test]
    fn one_wrong_letter_is_no_iban() {
        for iban in ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "NO9386011117947"] {
            assert!(is_iban(iban), "{iban}");
            let letters: Vec<char> = iban.chars().collect();
            for at in (0..letters.len()).filter(|at| letters[*at] != ' ') {
                let mut other = letters.clone();
                other[at] = if letters[at] == '7' { '3' } else { '7' };
                let other: String = other.into_iter().collect();
                assert!(!is_iban(&other), "{other}");
            }
        }
        assert!(!is_iban("") && !is_iban("DE89") && !is_iban(&"A1".repeat(20)));
    }
}
