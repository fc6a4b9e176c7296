//! The sentence about an unsupported language.

use ai_factory_ports::sandbox::Language;

/// Why no program in `language` is run, with the languages that are supported.
pub(super) fn unsupported(language: &str, known: &[Language]) -> String {
    let known: Vec<_> = known.iter().map(|known| known.name).collect();
    if known.is_empty() {
        return format!("{language:?} does not run here, nor does any other language");
    }
    format!("{language:?} does not run here; these do: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_languages_that_there_are_are_named() {
        let language = |name| Language {
            name,
            aliases: &["another"],
            interpreter: "/bin/true".into(),
            version: "1".to_owned(),
        };
        assert_eq!(
            unsupported("ruby", &[language("python"), language("bash")]),
            "\"ruby\" does not run here; these do: python, bash"
        );
        assert!(unsupported("", &[]).contains("nor does any other"));
    }
}
