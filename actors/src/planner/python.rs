//! Whether a text is a Python program, for code blocks that name no language.
//!
//! *Promises.* No input can exhaust the stack: the depth of the syntax tree is bounded from the
//! token stream before anything recursive reads the text.
//!
//! *Limits.* [`DEPTH_TOKENS_MAX`], [`INDENTS_MAX`].

use ruff_python_ast::{Expr, Stmt, token::TokenKind};
use ruff_python_parser::{Mode, lexer, parse_module};

/// The deepest syntax tree that is parsed, in tokens that may nest in one another. Chains such as
/// `a + b + c` and `f()()` nest without brackets, so brackets alone would not bound the tree.
const DEPTH_TOKENS_MAX: usize = 1000;
/// The most indentation levels; `CPython` refuses more as well.
const INDENTS_MAX: usize = 100;

/// Whether `source` is a Python program with a possible effect.
///
/// A text of bare names is not one, although it parses: `make`, `ls -la` and `this is not code` are
/// valid expressions, but as programs they can only fail.
pub(super) fn is_program(source: &str) -> bool {
    shallow(source)
        && parse_module(source)
            .is_ok_and(|parsed| parsed.suite().iter().any(|statement| !is_prose(statement)))
}

/// Whether the syntax tree of `source` is certainly shallow enough to be parsed and dropped.
fn shallow(source: &str) -> bool {
    let mut lexer = lexer::lex(source, Mode::Module);
    // One entry per open bracket: its opener, and how many tokens may nest in it so far.
    let mut open: Vec<(TokenKind, usize)> = vec![(TokenKind::Newline, 0)];
    let (mut depth, mut indents) = (0_usize, 0_usize);
    loop {
        let kind = lexer.next_token();
        match kind {
            TokenKind::EndOfFile => return open.len() == 1,
            TokenKind::Unknown => return false,
            TokenKind::Comment | TokenKind::NonLogicalNewline => continue,
            TokenKind::Indent => indents += 1,
            TokenKind::Dedent => indents = indents.saturating_sub(1),
            TokenKind::Rpar
            | TokenKind::Rsqb
            | TokenKind::Rbrace
            | TokenKind::FStringEnd
            | TokenKind::TStringEnd => match open.pop() {
                Some((opener, tokens)) if closes(opener, kind) => {
                    // `f()()` nests although each bracket is closed before the next one opens.
                    depth = depth - tokens + 1;
                    if let Some((_, outer)) = open.last_mut() {
                        *outer += 1;
                    }
                }
                _ => return false,
            },
            // Lambdas nest across the commas of their parameters; everything else starts again at a
            // comma.
            TokenKind::Comma => depth -= reset_brackets(&mut open),
            TokenKind::Newline => {
                if open.len() > 1 {
                    return false;
                }
                depth -= reset_brackets(&mut open);
            }
            TokenKind::Lpar
            | TokenKind::Lsqb
            | TokenKind::Lbrace
            | TokenKind::FStringStart
            | TokenKind::TStringStart => {
                open.push((kind, 1));
                depth += 1;
            }
            TokenKind::Lambda => depth += 1,
            _ => {
                depth += 1;
                if let Some((_, tokens)) = open.last_mut() {
                    *tokens += 1;
                }
            }
        }
        if depth > DEPTH_TOKENS_MAX || indents > INDENTS_MAX {
            return false;
        }
    }
}

fn reset_brackets(open: &mut [(TokenKind, usize)]) -> usize {
    open.last_mut().map_or(0, |(_, tokens)| std::mem::take(tokens))
}

fn closes(opener: TokenKind, closer: TokenKind) -> bool {
    matches!(
        (opener, closer),
        (TokenKind::Lpar, TokenKind::Rpar)
            | (TokenKind::Lsqb, TokenKind::Rsqb)
            | (TokenKind::Lbrace, TokenKind::Rbrace)
            | (TokenKind::FStringStart, TokenKind::FStringEnd)
            | (TokenKind::TStringStart, TokenKind::TStringEnd)
    )
}

fn is_prose(statement: &Stmt) -> bool {
    matches!(statement, Stmt::Expr(node) if is_names(&node.value))
}

/// Whether `expr` has only names and operators. Its depth is bounded by [`shallow`].
fn is_names(expr: &Expr) -> bool {
    match expr {
        Expr::Name(_) | Expr::EllipsisLiteral(_) => true,
        Expr::Attribute(node) => is_names(&node.value),
        Expr::UnaryOp(node) => is_names(&node.operand),
        Expr::BinOp(node) => is_names(&node.left) && is_names(&node.right),
        Expr::BoolOp(node) => node.values.iter().all(is_names),
        Expr::Compare(node) => is_names(&node.left) && node.comparators.iter().all(is_names),
        Expr::Tuple(node) => node.elts.iter().all(is_names),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_prose() {
        for program in [
            "print(1)",
            "x = 1",
            "import os",
            "2 + 2",
            "for i in range(3):\n    print(f'{i:>{3}} {[i, i]}')\n",
            "f = lambda a, b: a\n\n# why\nprint(f(1,\n  2))",
            "match x:\n    case {'a': [1, *_]}:\n        pass\n",
            "s = '''(((\n(('''",
        ] {
            assert!(is_program(program), "{program:?}");
        }
        for prose in [
            "",
            "# only a comment",
            "make",
            "ls -la",
            "this is not python",
            "hello world",
            "cargo test --all",
            "one, two",
            "{\"a\": 1",
            "print(1",
            "fn main() {}",
            "if x then y",
        ] {
            assert!(!is_program(prose), "{prose:?}");
        }
    }

    #[test]
    fn deep_input_is_refused_and_does_not_overflow_the_stack() {
        let deep = |unit: &str| unit.repeat(100 * 1024 / unit.len());
        for source in [
            deep("("),
            deep("["),
            deep("(]"),
            deep("f("),
            deep("{1:"),
            deep("-"),
            deep("not "),
            deep("1+") + "1",
            deep("1**") + "1",
            "f".to_owned() + &deep("()"),
            "a".to_owned() + &deep(".b"),
            deep("lambda a, b: "),
            deep("f'{"),
            deep("await "),
            deep("x if y else ") + "z",
            deep("async "),
            deep("a = ") + "1",
            (0..400).map(|n| " ".repeat(n) + "if x:\n").collect::<String>()
                + &" ".repeat(400)
                + "y = 1",
        ] {
            assert!(!is_program(&source), "{:?}", &source[..12]);
        }
        assert!(is_program(&format!("x = [{}]", deep("1, "))), "long is not deep");
    }
}
