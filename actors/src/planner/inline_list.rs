//! The markers of a list written on one line: `1) dig 2) plant`.

use std::collections::HashMap;

use super::{
    dot,
    marker::{self, Marker, Style},
    mask::ByteMask,
    piece::CutReason,
    token::ProseToken,
};

/// Tokens that mark items on one line. Numbers and letters count only in sequence from the first
/// one.
pub(super) fn markers(
    text: &str,
    mask: &ByteMask,
    tokens: &[ProseToken],
    marker: Option<Marker>,
) -> HashMap<usize, (CutReason, usize)> {
    let mut found = HashMap::new();
    let mut runs: HashMap<Style, (u32, Vec<(usize, Marker)>)> = HashMap::new();
    let mut accept = |run: &(u32, Vec<(usize, Marker)>), seeded: bool| {
        if run.1.len() > usize::from(!seeded) {
            for (at, marker) in &run.1 {
                found.insert(*at, (CutReason::Item(marker.value), marker.len));
            }
        }
    };
    let mut seeds = Vec::new();
    if let Some(marker) = marker.filter(|marker| marker.value > 0) {
        runs.insert(marker.style, (marker.value + 1, Vec::new()));
        seeds.push(marker.style);
    }
    let mut plain = Vec::new();
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| mask.is_free(token.start)) {
        // A label such as `Step 2:` is longer than its token.
        let limit = tokens
            .get(at + 2)
            .map_or(tokens.last().map_or(token.end, |last| last.end), |candidate| candidate.end);
        let rest = &text[token.start..limit];
        if let Some((done, len)) = marker::check_box(rest) {
            plain.push((at, CutReason::Box(done), len));
            continue;
        }
        let Some(marker) = marker::read(rest) else { continue };
        // In a sentence, a stop after `(1)` ends it.
        if at > 0 && rest[..marker.len].ends_with(").") {
            continue;
        }
        if marker.value > 0 && dot::month(rest[marker.len..].trim_start()).is_some() {
            continue;
        }
        match marker.style {
            Style::Sign | Style::NumberSign => {}
            Style::Bullet | Style::Plain => {
                plain.push((at, CutReason::Item(marker.value), marker.len));
            }
            style => {
                // `i)` is the ninth of some lists and the first of others.
                let values = [Some(marker.value), marker.roman];
                if let Some((expected, run)) = runs.get_mut(&style)
                    && values.contains(&Some(*expected))
                {
                    run.push((at, Marker { value: *expected, ..marker }));
                    *expected += 1;
                    continue;
                }
                let pause = at == 0
                    || text[..tokens[at - 1].end]
                        .ends_with([':', '.', ';', '!', '?', '-', '–', '—', ',', '：']);
                let dotted = matches!(style, Style::NumberDot | Style::LetterDot);
                if values.contains(&Some(1)) && (!dotted || pause) {
                    let first = (at, Marker { value: 1, ..marker });
                    if let Some(run) = runs.insert(style, (2, vec![first])) {
                        accept(&run, seeds.contains(&style));
                    }
                    seeds.retain(|seed| *seed != style);
                }
            }
        }
    }
    for (style, run) in &runs {
        accept(run, seeds.contains(style));
    }
    for (at, why, len) in plain {
        found.insert(at, (why, len));
    }
    found
}
