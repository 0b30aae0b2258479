//! Rules on single Rust files, and the small reader of Rust text that the other rules share.

/// The most lines a file may have before its tests.
const MAX_LINES: usize = 500;

/// Names that say nothing about what a module or crate holds.
pub(crate) const EMPTY_NAMES: [&str; 7] = ["utils", "util", "common", "core", "helpers", "helper", "misc"];

/// A Rust file with comments, and what stands in string and character literals, told apart from
/// code.
///
/// `code` and `comments` have the length and lines of the file; everything else in them is blank.
pub(crate) struct Source {
    pub(crate) code: String,
    pub(crate) comments: String,
}

impl Source {
    /// Reads a file. Understands nested block comments, raw strings, byte strings and lifetimes.
    pub(crate) fn new(text: &str) -> Self {
        let mut reader =
            Reader { chars: text.chars().collect(), at: 0, code: String::new(), comments: String::new() };
        while reader.at < reader.chars.len() {
            reader.token();
        }
        Self { code: reader.code, comments: reader.comments }
    }

    /// The code up to the unit tests at the end of the file.
    pub(crate) fn code_without_tests(&self) -> &str {
        &self.code[..tests_start(&self.code)]
    }
}

/// Beginning of the test module at the end of a file; the length of the file if it has none.
pub(crate) fn tests_start(text: &str) -> usize {
    let mut offset = 0;
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let inline =
            lines.peek().is_some_and(|next| next.starts_with("mod ") && next.trim_end().ends_with('{'));
        if line.trim_end() == "#[cfg(test)]" && inline {
            return offset;
        }
        offset += line.len();
    }
    text.len()
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    code: String,
    comments: String,
}

impl Reader {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    /// Takes `count` characters, kept in code, in comments, or in neither.
    fn take(&mut self, count: usize, code: bool, comment: bool) {
        for _ in 0..count.min(self.chars.len() - self.at) {
            let char = self.chars[self.at];
            let blank = if char == '\n' { '\n' } else { ' ' };
            self.code.push(if code { char } else { blank });
            self.comments.push(if comment { char } else { blank });
            self.at += 1;
        }
    }

    fn token(&mut self) {
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => {
                let end = self.chars[self.at..].iter().position(|char| *char == '\n');
                self.take(end.unwrap_or(usize::MAX), false, true);
            }
            ('/', '*') => self.block_comment(),
            ('r', '"' | '#') if !self.in_word() => self.raw_string(1),
            ('b', 'r') if matches!(self.peek(2), '"' | '#') && !self.in_word() => self.raw_string(2),
            ('"', _) => self.string('"'),
            ('\'', next) if next == '\\' || self.peek(2) == '\'' => self.string('\''),
            _ => self.take(1, true, false),
        }
    }

    fn in_word(&self) -> bool {
        self.at > 0 && is_word(self.chars[self.at - 1])
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                ('\0', _) => return,
                _ => {
                    self.take(1, false, true);
                    continue;
                }
            }
            self.take(2, false, true);
            if depth == 0 {
                return;
            }
        }
    }

    /// A raw string after `prefix` characters; `r#name` is an identifier and stays code.
    fn raw_string(&mut self, prefix: usize) {
        let hashes = (0..).take_while(|index| self.peek(prefix + index) == '#').count();
        if self.peek(prefix + hashes) != '"' {
            self.take(prefix + hashes, true, false);
            return;
        }
        self.take(prefix + hashes + 1, true, false);
        let close: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
        while self.at < self.chars.len()
            && !close.chars().enumerate().all(|(index, char)| self.peek(index) == char)
        {
            self.take(1, false, false);
        }
        self.take(close.len(), true, false);
    }

    fn string(&mut self, quote: char) {
        self.take(1, true, false);
        while self.at < self.chars.len() && self.peek(0) != quote {
            let escaped = self.peek(0) == '\\';
            self.take(if escaped { 2 } else { 1 }, false, false);
        }
        self.take(1, true, false);
    }
}

/// Returns true if a character can stand in an identifier.
pub(crate) fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// The places of a whole word in text.
pub(crate) fn word_places<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = text[..*at].chars().next_back().is_some_and(is_word);
        let after = text[at + word.len()..].chars().next().is_some_and(is_word);
        !before && !after
    })
}

/// The number of the line that an offset stands in, from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// More than 500 lines before the tests; whole files of tests and generated files may be longer.
pub(crate) fn too_long(path: &str, text: &str) -> Option<String> {
    let whole_test = path.contains("/tests/");
    let generated = text.lines().take(3).any(|line| line.contains("@generated"));
    let lines = text[..tests_start(text)].lines().count();
    (lines > MAX_LINES && !whole_test && !generated)
        .then(|| format!("{lines} lines without tests, {MAX_LINES} allowed"))
}

/// `mod.rs`, and modules called utils and the like.
pub(crate) fn bad_module_names(path: &str, source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    if parts.last() == Some(&"mod") {
        wrong.push("foo.rs next to foo/ instead of mod.rs".to_owned());
    }
    wrong.extend(
        parts
            .iter()
            .filter(|part| EMPTY_NAMES.contains(part))
            .map(|part| format!("the name {part} says nothing")),
    );
    for name in EMPTY_NAMES {
        let declared = word_places(&source.code, name).filter(|at| source.code[..*at].ends_with("mod "));
        wrong
            .extend(declared.map(|at| format!("line {}: a module called {name}", line_of(&source.code, at))));
    }
    wrong
}

/// The marks of unfinished work, put together here so that this file holds none of them.
pub(crate) fn marks() -> [String; 3] {
    [["TO", "DO"], ["FIX", "ME"], ["X", "XX"]].map(|parts| parts.concat())
}

/// Marks in comments; macros and attributes that postpone work or skip tests.
pub(crate) fn unfinished(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for mark in marks() {
        wrong.extend(
            word_places(&source.comments, &mark)
                .map(|at| format!("line {}: {mark}", line_of(&source.comments, at))),
        );
    }
    for (word, next) in [("todo", "!"), ("unimplemented", "!"), ("ignore", "]"), ("ignore", " =")] {
        let found = word_places(&source.code, word).filter(|at| {
            let before = source.code[..*at].trim_end();
            source.code[at + word.len()..].starts_with(next) && (next == "!" || before.ends_with("#["))
        });
        wrong.extend(found.map(|at| format!("line {}: {word}{next}", line_of(&source.code, at))));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_code_from_comments_and_strings() {
        let check = |text: &str, code: &str, comments: &str| {
            let source = Source::new(text);
            assert_eq!((source.code.as_str(), source.comments.trim_end()), (code, comments), "{text:?}");
        };
        check("a // b\nc", "a     \nc", "  // b");
        check("a /* b /* c */ d */ e", "a                   e", "  /* b /* c */ d */");
        check(r#"f("x // y")"#, r#"f("      ")"#, "");
        check(r#"f("\"", 'a', '\'')"#, r#"f("  ", ' ', '  ')"#, "");
        check("fn f<'a>(x: &'a T)", "fn f<'a>(x: &'a T)", "");
        check("r#\"a\"b\"# r#type", "r#\"   \"# r#type", "");
        check("br\"x\" bar\"y\"", "br\" \" bar\" \"", "");
        check("\"open", "\"    ", "");
    }

    #[test]
    fn counts_lines_before_the_tests() {
        let check = |path: &str, lines: usize, tail: &str, complains: bool| {
            let text = "x\n".repeat(lines) + tail;
            assert_eq!(too_long(path, &text).is_some(), complains, "{path} {lines} {tail:?}");
        };
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "y\n".repeat(600));
        check("a/src/b.rs", 500, "", false);
        check("a/src/b.rs", 501, "", true);
        check("a/src/b.rs", 500, &tests, false);
        check("a/src/b.rs", 10, "#[cfg(test)]\nmod tests;\n", false);
        check("a/src/b.rs", 501, &tests, true);
        check("a/tests/b.rs", 501, "", false);
        assert!(too_long("a.rs", &("// @generated by a script\n".to_owned() + &"x\n".repeat(900))).is_none());
    }

    #[test]
    fn notices_names_that_say_nothing() {
        let check = |path: &str, text: &str, count: usize| {
            assert_eq!(bad_module_names(path, &Source::new(text)).len(), count, "{path} {text}");
        };
        check("a/src/posting.rs", "mod span;", 0);
        check("a/src/posting/mod.rs", "", 1);
        check("a/src/utils.rs", "", 1);
        check("common/src/lib.rs", "", 1);
        check("a/src/lib.rs", "pub mod helpers;\n// mod utils;", 1);
        check("a/src/lib.rs", "use candle::core; mod core_skills;", 0);
    }

    #[test]
    fn notices_unfinished_work() {
        let check = |text: &str, count: usize| {
            assert_eq!(unfinished(&Source::new(text)).len(), count, "{text}");
        };
        for mark in marks() {
            check(&format!("// {mark}: later"), 1);
            check(&format!("let a = \"{mark} EL DÍA\";"), 0);
            check(&format!("// a{mark}b"), 0);
        }
        check("fn a() { todo!() }", 1);
        check("fn a() { unimplemented!(\"x\") }", 1);
        check("#[ignore]\nfn a() {}", 1);
        check("#[ignore = \"slow\"]\nfn a() {}", 1);
        check("let ignore = 1; f(ignore); let todo = [ignore];", 0);
    }
}
