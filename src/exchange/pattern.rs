//! STIX patterns: the whole grammar, and which of its sentences are a list of values.
//!
//! ```text
//! [domain-name:value = 'a.example' OR ipv4-addr:value = '192.0.2.7'] -parse-> Pattern -terms-> two values
//! [file:name = 'a' AND process:pid = 7] FOLLOWEDBY [...]             -parse-> Pattern -terms-> Inexpressible, with a reason
//! ```
//!
//! Comparisons joined by OR say the same of each value, so each becomes an indicator. What needs two things together, or an
//! order in time, is no list of values. Nothing is evaluated here. Grammar: STIX 2.1 section 9 (2.0: part 5); `==` is taken
//! for `=`, as the reference validator takes it. Length and depth are bounded, so a hostile pattern costs its length.

use std::{borrow::Cow, iter::Peekable, str::CharIndices};

/// Longest pattern, in bytes; the longest in published bundles has 6,000.
pub const PATTERN_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting of brackets.
const NESTING_MAX: usize = 32;
/// Most values of one pattern.
pub const TERMS_MAX: usize = 1_000;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a STIX pattern: at character {at}, {why}")]
pub struct PatternError {
    /// From 1.
    pub at: usize,
    pub why: String,
}

/// Why a pattern is not a list of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Inexpressible {
    #[error("it asks for several observations together or in an order")]
    Observations,
    #[error("it is bound to a span of time or a number of repetitions")]
    Qualified,
    #[error("it asks for several things at once (AND)")]
    Together,
    #[error("it excludes (NOT, !=)")]
    Excludes,
    #[error("it compares by order, substring or regular expression")]
    Comparison,
    #[error("it asks for something that no indicator type holds")]
    Subject,
    #[error("it has more than 1,000 values")]
    Many,
}

/// One step of an object path behind the type: a property, a place in a list, or any place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStep {
    Property(String),
    Index(i64),
    Any,
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// As spelt; its form was checked.
    Time(String),
    /// Bytes, from hexadecimal or base64.
    Bytes(Vec<u8>),
}

/// How a property is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal,
    Unequal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    In,
    Like,
    Matches,
    Subset,
    Superset,
    Exists,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// The object's type, such as `domain-name`.
    pub object: String,
    pub path: Vec<PathStep>,
    pub operator: Operator,
    pub negated: bool,
    /// One, or several for `IN`; none for `EXISTS`.
    pub literals: Vec<Literal>,
}

/// What stands between `[` and `]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Comparison {
    Test(Test),
    And(Vec<Comparison>),
    Or(Vec<Comparison>),
}

/// What a pattern asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    Observation(Comparison),
    And(Vec<Pattern>),
    Or(Vec<Pattern>),
    FollowedBy(Vec<Pattern>),
    /// Within a span of time, repeated, or between two moments.
    Qualified(Box<Pattern>),
}

/// What one alternative of a pattern asks for: tests of one thing that must all hold. Mostly it is one test.
pub type Alternative<'a> = Vec<&'a Test>;

impl Pattern {
    /// Reads `text`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError { at: 1, why: format!("it has {} bytes, more than 65,536", text.len()) });
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, end: text.chars().count() + 1 };
        let pattern = parser.followed_by()?;
        match parser.peek() {
            None => Ok(pattern),
            Some(_) => Err(parser.error("something stands behind its end")),
        }
    }

    /// The alternatives that it is made of, if it is nothing but alternatives.
    pub fn alternatives(&self) -> Result<Vec<Alternative<'_>>, Inexpressible> {
        let mut found = Vec::new();
        self.collect(&mut found)?;
        Ok(found)
    }

    fn collect<'a>(&'a self, found: &mut Vec<Alternative<'a>>) -> Result<(), Inexpressible> {
        match self {
            Self::Observation(comparison) => comparison.collect(found),
            Self::Or(parts) => parts.iter().try_for_each(|part| part.collect(found)),
            Self::And(_) | Self::FollowedBy(_) => Err(Inexpressible::Observations),
            Self::Qualified(_) => Err(Inexpressible::Qualified),
        }
    }
}

impl Comparison {
    fn collect<'a>(&'a self, found: &mut Vec<Alternative<'a>>) -> Result<(), Inexpressible> {
        if found.len() >= TERMS_MAX {
            return Err(Inexpressible::Many);
        }
        match self {
            Self::Test(test) => found.push(vec![test]),
            Self::Or(parts) => parts.iter().try_for_each(|part| part.collect(found))?,
            Self::And(parts) => {
                let tests = parts.iter().map(|part| match part {
                    Self::Test(test) => Some(test),
                    _ => None,
                });
                found.push(tests.collect::<Option<_>>().ok_or(Inexpressible::Together)?);
            }
        }
        Ok(())
    }
}

impl Test {
    /// The property's name as people write it: `hashes.SHA-256`, `dst_ref.value`, `protocols[*]`.
    pub fn property(&self) -> String {
        self.path.iter().fold(String::new(), |text, step| match step {
            PathStep::Property(name) if text.is_empty() => name.clone(),
            PathStep::Property(name) => format!("{text}.{name}"),
            PathStep::Index(index) => format!("{text}[{index}]"),
            PathStep::Any => format!("{text}[*]"),
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token<'a> {
    /// A name or keyword.
    Word(&'a str),
    Literal(Literal),
    /// `[ ] ( ) , : . *` and comparison signs.
    Sign(&'static str),
}

/// Longest first, so that `<=` is not read as `<`.
const SIGNS: [&str; 17] = ["==", "!=", "<>", "<=", ">=", "=", "<", ">", "[", "]", "(", ")", ",", ":", ".", "*", "-"];

fn tokens(text: &str) -> Result<Vec<(usize, Token<'_>)>, PatternError> {
    let mut found = Vec::new();
    let mut chars = text.char_indices().peekable();
    let mut number = 0;
    while let Some(&(at, char)) = chars.peek() {
        let place = number + 1;
        let error = |why: &str| PatternError { at: place, why: why.to_owned() };
        let rest = text.get(at..).unwrap_or_default();
        let used = if char.is_whitespace() {
            char.len_utf8()
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.find("*/").ok_or_else(|| error("a comment has no end"))? + 4
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if char == '\'' {
            let (literal, used) = quoted(rest).ok_or_else(|| error("a text has no closing `'`"))?;
            found.push((place, Token::Literal(Literal::Text(literal))));
            used
        } else if matches!(char, 't' | 'b' | 'h') && rest.get(1..2) == Some("'") {
            let (literal, used) = quoted(rest.get(1..).unwrap_or_default()).ok_or_else(|| error("a text has no closing `'`"))?;
            found.push((place, Token::Literal(typed(char, &literal).map_err(error)?)));
            used + 1
        } else if char.is_ascii_digit() || (matches!(char, '+' | '-' | '.') && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit)) {
            let end = rest.char_indices().skip(1).find(|(_, char)| !char.is_ascii_digit() && *char != '.').map_or(rest.len(), |(at, _)| at);
            found.push((place, Token::Literal(numeral(rest.get(..end).unwrap_or_default()).map_err(error)?)));
            end
        } else if char.is_ascii_alphabetic() || char == '_' {
            // Hyphens belong to names of types; behind a name nothing else could be meant by one.
            let end = rest.find(|char: char| !char.is_ascii_alphanumeric() && char != '_' && char != '-').unwrap_or(rest.len());
            found.push((place, Token::Word(rest.get(..end).unwrap_or_default())));
            end
        } else {
            let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign)).ok_or_else(|| error("a sign that patterns do not have"))?;
            found.push((place, Token::Sign(sign)));
            sign.len()
        };
        number += advance(&mut chars, at + used);
    }
    Ok(found)
}

fn advance(chars: &mut Peekable<CharIndices<'_>>, to: usize) -> usize {
    std::iter::from_fn(|| chars.next_if(|(at, _)| *at < to)).count()
}

/// A quoted text at the start of `rest`, without its escapes, and its length with quotes.
fn quoted(rest: &str) -> Option<(String, usize)> {
    let (mut text, mut escaped) = (String::new(), false);
    for (at, char) in rest.char_indices().skip(1) {
        match char {
            _ if std::mem::take(&mut escaped) => text.push(char),
            '\\' => escaped = true,
            '\'' => return Some((text, at + 1)),
            _ => text.push(char),
        }
    }
    None
}

fn typed(prefix: char, text: &str) -> Result<Literal, &'static str> {
    match prefix {
        't' if is_time(text) => Ok(Literal::Time(text.to_owned())),
        't' => Err("a time is written t'2026-01-31T12:00:00Z'"),
        'h' => hex::decode(text).map(Literal::Bytes).map_err(|_| "bytes are written h'00ff', in pairs of digits"),
        _ => base64(text).map(Literal::Bytes).ok_or("bytes are written b'AP8=', in base64"),
    }
}

/// RFC 4648 section 4, with its padding.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.decode(text).ok()
}

/// `YYYY-MM-DDTHH:MM:SS[.s]Z` by its digits alone, as the published grammar has it: it takes 30 February.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let fits = |(byte, wanted): (&u8, &u8)| if *wanted == b'd' { byte.is_ascii_digit() } else { byte == wanted };
    let number = |from: usize| text.get(from..from + 2).and_then(|two| two.parse::<u8>().ok());
    let within = |from: usize, low: u8, high: u8| number(from).is_some_and(|number| (low..=high).contains(&number));
    let tail = text.get(shape.len()..).unwrap_or_default();
    let fraction = tail.strip_suffix('Z').map(|tail| match tail.strip_prefix('.') {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => tail.is_empty(),
    });
    bytes.len() > shape.len()
        && bytes.iter().zip(shape).all(fits)
        && within(5, 1, 12)
        && within(8, 1, 31)
        && within(11, 0, 23)
        && within(14, 0, 59)
        && within(17, 0, 60)
        && fraction == Some(true)
}

fn numeral(text: &str) -> Result<Literal, &'static str> {
    let digits = text.trim_start_matches(['+', '-']);
    if digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.") {
        return Err("a number has no zero in front");
    }
    if text.contains('.') {
        return text.parse().map(Literal::Float).map_err(|_| "not a number");
    }
    text.trim_start_matches('+').parse().map(Literal::Integer).map_err(|_| "a number is too large")
}

struct Parser<'a> {
    tokens: Vec<(usize, Token<'a>)>,
    at: usize,
    depth: usize,
    end: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&Token<'a>> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn error(&self, why: &str) -> PatternError {
        PatternError { at: self.tokens.get(self.at).map_or(self.end, |(at, _)| *at), why: why.to_owned() }
    }

    fn sign(&mut self, sign: &str) -> bool {
        let here = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(here);
        here
    }

    fn word(&mut self, word: &str) -> bool {
        let here = matches!(self.peek(), Some(Token::Word(found)) if *found == word);
        self.at += usize::from(here);
        here
    }

    fn wanted(&mut self, sign: &str) -> Result<(), PatternError> {
        if self.sign(sign) { Ok(()) } else { Err(self.error(&format!("a `{sign}` is missing"))) }
    }

    fn wanted_word(&mut self, word: &str) -> Result<(), PatternError> {
        if self.word(word) { Ok(()) } else { Err(self.error(&format!("`{word}` is missing"))) }
    }

    fn deeper(&mut self) -> Result<(), PatternError> {
        self.depth += 1;
        if self.depth > NESTING_MAX { Err(self.error("brackets are nested deeper than 32")) } else { Ok(()) }
    }

    /// What stands between words `word`, made one by `join` if there is more than one.
    fn joined<T>(
        &mut self,
        word: &str,
        part: impl Fn(&mut Self) -> Result<T, PatternError>,
        join: impl Fn(Vec<T>) -> T,
    ) -> Result<T, PatternError> {
        let first = part(self)?;
        let mut parts = vec![first];
        while self.word(word) {
            parts.push(part(self)?);
        }
        Ok(if parts.len() > 1 { join(parts) } else { parts.remove(0) })
    }

    fn followed_by(&mut self) -> Result<Pattern, PatternError> {
        self.joined("FOLLOWEDBY", Self::observations_or, Pattern::FollowedBy)
    }

    fn observations_or(&mut self) -> Result<Pattern, PatternError> {
        self.joined("OR", Self::observations_and, Pattern::Or)
    }

    fn observations_and(&mut self) -> Result<Pattern, PatternError> {
        self.joined("AND", Self::observation, Pattern::And)
    }

    fn observation(&mut self) -> Result<Pattern, PatternError> {
        let bare = self.sign("[");
        let mut pattern = if bare {
            let comparison = self.comparison()?;
            self.wanted("]")?;
            Pattern::Observation(comparison)
        } else {
            self.wanted("(")?;
            self.deeper()?;
            let inner = self.followed_by()?;
            self.wanted(")")?;
            self.depth -= 1;
            inner
        };
        let mut seen = Vec::new();
        while let Some(name) = self.qualifier()? {
            if bare && seen.contains(&name) {
                return Err(self.error(&format!("`{name}` stands twice")));
            }
            seen.push(name);
            if !matches!(pattern, Pattern::Qualified(_)) {
                pattern = Pattern::Qualified(Box::new(pattern));
            }
        }
        Ok(pattern)
    }

    fn qualifier(&mut self) -> Result<Option<&'static str>, PatternError> {
        let literal = |parser: &mut Self, fits: fn(&Literal) -> bool, why: &str| match parser.peek() {
            Some(Token::Literal(literal)) if fits(literal) => {
                parser.at += 1;
                Ok(())
            }
            _ => Err(parser.error(why)),
        };
        let is_time: fn(&Literal) -> bool = |literal| matches!(literal, Literal::Time(_));
        if self.word("WITHIN") {
            let positive = |literal: &Literal| match literal {
                Literal::Integer(number) => *number >= 0,
                Literal::Float(number) => *number >= 0.0,
                _ => false,
            };
            literal(self, positive, "a number of seconds is missing")?;
            self.wanted_word("SECONDS")?;
            return Ok(Some("WITHIN"));
        }
        if self.word("REPEATS") {
            literal(self, |literal| matches!(literal, Literal::Integer(number) if *number > 0), "a number of times is missing")?;
            self.wanted_word("TIMES")?;
            return Ok(Some("REPEATS"));
        }
        if self.word("START") {
            literal(self, is_time, "a time is missing")?;
            self.wanted_word("STOP")?;
            literal(self, is_time, "a time is missing")?;
            return Ok(Some("START"));
        }
        Ok(None)
    }

    fn comparison(&mut self) -> Result<Comparison, PatternError> {
        self.joined("OR", Self::comparisons_and, Comparison::Or)
    }

    fn comparisons_and(&mut self) -> Result<Comparison, PatternError> {
        self.joined("AND", Self::test, Comparison::And)
    }

    fn test(&mut self) -> Result<Comparison, PatternError> {
        if self.sign("(") {
            self.deeper()?;
            let inner = self.comparison()?;
            self.wanted(")")?;
            self.depth -= 1;
            return Ok(inner);
        }
        let before = self.word("NOT");
        if self.word("EXISTS") {
            let (object, path) = self.path()?;
            return Ok(Comparison::Test(Test { object, path, operator: Operator::Exists, negated: before, literals: Vec::new() }));
        }
        if before {
            return Err(self.error("NOT stands behind the property that it negates"));
        }
        let (object, path) = self.path()?;
        let negated = self.word("NOT");
        let operator = self.operator()?;
        let literals = if operator == Operator::In { self.set()? } else { vec![self.literal()?] };
        let test = Test { object, path, operator, negated, literals };
        self.check(&test)?;
        Ok(Comparison::Test(test))
    }

    /// Rules beyond the shape: what is compared by text needs a text, and a hash has the digits of its kind.
    fn check(&self, test: &Test) -> Result<(), PatternError> {
        use Operator as O;
        let texts = matches!(test.operator, O::Like | O::Matches | O::Subset | O::Superset);
        if texts && !matches!(test.literals.as_slice(), [Literal::Text(_)]) {
            return Err(self.error("LIKE, MATCHES, ISSUBSET and ISSUPERSET compare with a text"));
        }
        let ordered = matches!(test.operator, O::Greater | O::GreaterOrEqual | O::Less | O::LessOrEqual);
        if ordered && matches!(test.literals.as_slice(), [Literal::Bool(_)]) {
            return Err(self.error("true and false have no order"));
        }
        if let ("file", [PathStep::Property(hashes), PathStep::Property(kind)], [Literal::Text(text)]) =
            (test.object.as_str(), test.path.as_slice(), test.literals.as_slice())
            && hashes == "hashes"
            && test.operator == O::Equal
        {
            let digits = match plain_hash_name(kind).as_ref() {
                "md5" => 32,
                "sha1" => 40,
                "sha256" => 64,
                "sha512" => 128,
                _ => return Ok(()),
            };
            if text.len() != digits || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(self.error(&format!("`{}` is no {kind}", crate::record::excerpt(text))));
            }
        }
        Ok(())
    }

    fn operator(&mut self) -> Result<Operator, PatternError> {
        use Operator as O;
        const SIGNS: [(&str, Operator); 8] = [
            ("=", O::Equal),
            ("==", O::Equal),
            ("!=", O::Unequal),
            ("<>", O::Unequal),
            (">", O::Greater),
            (">=", O::GreaterOrEqual),
            ("<", O::Less),
            ("<=", O::LessOrEqual),
        ];
        const WORDS: [(&str, Operator); 5] =
            [("IN", O::In), ("LIKE", O::Like), ("MATCHES", O::Matches), ("ISSUBSET", O::Subset), ("ISSUPERSET", O::Superset)];
        let signs = SIGNS.into_iter().find(|(sign, _)| self.sign(sign));
        let found = signs.or_else(|| WORDS.into_iter().find(|(word, _)| self.word(word)));
        found.map(|(_, operator)| operator).ok_or_else(|| self.error("a comparison is missing"))
    }

    fn set(&mut self) -> Result<Vec<Literal>, PatternError> {
        self.wanted("(")?;
        if self.sign(")") {
            return Ok(Vec::new());
        }
        let mut literals = vec![self.literal()?];
        while self.sign(",") {
            literals.push(self.literal()?);
        }
        self.wanted(")")?;
        Ok(literals)
    }

    fn literal(&mut self) -> Result<Literal, PatternError> {
        let literal = match self.peek() {
            Some(Token::Literal(literal)) => literal.clone(),
            Some(Token::Word("true" | "TRUE" | "True")) => Literal::Bool(true),
            Some(Token::Word("false" | "FALSE" | "False")) => Literal::Bool(false),
            _ => return Err(self.error("a value is missing; texts stand in `'`")),
        };
        self.at += 1;
        Ok(literal)
    }

    fn path(&mut self) -> Result<(String, Vec<PathStep>), PatternError> {
        let Some(Token::Word(object)) = self.peek() else { return Err(self.error("the type of an object is missing")) };
        let object = (*object).to_owned();
        self.at += 1;
        self.wanted(":")?;
        let mut path = vec![PathStep::Property(self.property()?)];
        loop {
            if self.sign(".") {
                path.push(PathStep::Property(self.property()?));
            } else if self.sign("[") {
                let step = match self.peek() {
                    Some(Token::Sign("*")) => PathStep::Any,
                    Some(Token::Literal(Literal::Integer(index))) => PathStep::Index(*index),
                    _ => return Err(self.error("a place in a list is a number or `*`")),
                };
                self.at += 1;
                self.wanted("]")?;
                path.push(step);
            } else {
                return Ok((object, path));
            }
        }
    }

    fn property(&mut self) -> Result<String, PatternError> {
        let name = match self.peek() {
            Some(Token::Word(word)) if !word.contains('-') => (*word).to_owned(),
            Some(Token::Literal(Literal::Text(text))) => text.clone(),
            _ => return Err(self.error("the name of a property is missing; one with a hyphen stands in `'`")),
        };
        self.at += 1;
        Ok(name)
    }
}

/// The name of a hash as one spelling: `'SHA-256'`, `SHA256` and `sha256` are one.
pub(super) fn plain_hash_name(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.chars().filter(char::is_ascii_alphanumeric).map(|char| char.to_ascii_lowercase()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> Result<usize, Inexpressible> {
        Pattern::parse(text).unwrap().alternatives().map(|found| found.len())
    }

    #[test]
    fn alternatives_are_a_list_and_what_needs_two_things_is_none() {
        use Inexpressible as I;
        assert_eq!(count("[domain-name:value = 'a.example']"), Ok(1));
        assert_eq!(count("[domain-name:value='a.example' OR ipv4-addr:value IN ('192.0.2.1', '192.0.2.2')] OR [url:value = 'x']"), Ok(3));
        assert_eq!(count("[file:name = 'a' AND file:size = 7]"), Ok(1), "one thing with two properties");
        assert_eq!(count("[(a:b = 1 OR a:b = 2) AND a:c = 3]"), Err(I::Together));
        assert_eq!(count("[a:b = 1] AND [a:b = 2]"), Err(I::Observations));
        assert_eq!(count("[a:b = 1] FOLLOWEDBY [a:b = 2]"), Err(I::Observations));
        assert_eq!(count("[a:b = 1] REPEATS 5 TIMES"), Err(I::Qualified));
    }

    #[test]
    fn text_is_unescaped_and_comments_are_passed_over() {
        let pattern = Pattern::parse("[file:name /* why */ = 'it\\'s \\\\here'] // the end").unwrap();
        let Pattern::Observation(Comparison::Test(test)) = pattern else { panic!("{pattern:?}") };
        assert_eq!(test.literals, [Literal::Text("it's \\here".to_owned())]);
    }

    #[test]
    fn an_error_says_where_it_is() {
        for (text, at) in [("[file:size = ]", 14), ("[a:b = 1", 9), ("", 1), ("[a:b = 'x]", 8), ("[ä:b = 1]", 2), ("[a:b = 1] x", 11)] {
            assert_eq!(Pattern::parse(text).unwrap_err().at, at, "{text}");
        }
    }

    #[test]
    fn a_pattern_that_is_nested_or_long_without_end_costs_nothing_but_its_length() {
        assert!(Pattern::parse(&"(".repeat(60_000)).unwrap_err().why.contains("deeper"));
        assert!(Pattern::parse(&format!("[{}", "(".repeat(60_000))).unwrap_err().why.contains("deeper"));
        assert!(Pattern::parse(&" ".repeat(70_000)).unwrap_err().why.contains("65,536"));
        let wide = vec!["[a:b = 1]"; 5_000].join(" OR ");
        assert_eq!(count(&wide), Err(Inexpressible::Many));
    }
}
