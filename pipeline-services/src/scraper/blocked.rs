//! Recognises pages that are no answer: refusals, challenges, logins, errors sent as success.
//!
//! General marks are known here, a portal's own come from its file. Weak marks count only on a page
//! without ads: an advertisement may speak of captchas.

use std::sync::LazyLock;

use regex::Regex;
use scraper::{Html, Selector};

use super::portal::Marks;

/// Bytes at the beginning of a page in which marks are looked for; challenge pages are small. Not
/// tuned: some ten times such a page.
const SEARCHED_BYTES: usize = 256 * 1024;

/// Marks that no honest page of a portal carries.
static CHALLENGE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)_cf_chl_opt|cf-chl-widget|/cdn-cgi/challenge-platform/h/[a-z]/orchestrate|id=.challenge-form|geo\.captcha-delivery\.com|<title>\s*(?:just a moment|attention required|access denied|pardon our interruption|acceso denegado|verifica que eres humano|un momento\.{3})",
    )
    .expect("a valid pattern")
});

/// Marks that an honest page may carry too: they count where a page holds nothing else.
static CAPTCHA: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)px-captcha|_Incapsula_Resource|g-recaptcha|h-captcha|hcaptcha\.com/1/api|cf-turnstile|no soy un robot|unusual traffic|tr[aá]fico inusual")
        .expect("a valid pattern")
});

/// The reason to take a status or a text for the refusal of a portal; none for an ordinary answer.
///
/// `mitigated` is the header with which Cloudflare marks its challenges.
pub(super) fn refusal(status: u16, mitigated: bool, text: &str) -> Option<&'static str> {
    let window = beginning(text);
    match status {
        // Whatever the status: Cloudflare sends challenges with several.
        _ if mitigated || CHALLENGE.is_match(window) => Some("a challenge page"),
        401 => Some("status 401, a login is asked for"),
        403 => Some("status 403"),
        451 => Some("status 451, not available for legal reasons"),
        // Not 429 and 503: those ask for patience, which the fetcher has.
        _ => None,
    }
}

fn beginning(text: &str) -> &str {
    let mut end = text.len().min(SEARCHED_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Kind of a page without a single ad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Barren {
    /// The portal refuses us.
    Refusal(&'static str),
    /// An error page sent as success.
    Error,
    /// Nothing of that kind.
    Other,
}

impl Marks {
    /// The reason to take a page for a refusal by the marks of the portal, whatever else it holds.
    pub(super) fn refusal(&self, url: &str, text: &str) -> Option<&'static str> {
        if self.login.as_ref().is_some_and(|login| login.is_match(url)) {
            return Some("the address of a login page");
        }
        self.blocked.iter().any(|mark| text.contains(mark)).then_some("a text of the portal file")
    }

    /// Looks closer at a page on which no ad was found.
    pub(super) fn barren(&self, text: &str, page: Option<&Html>) -> Barren {
        if self.error.iter().any(|mark| text.contains(mark)) {
            return Barren::Error;
        }
        if CAPTCHA.is_match(beginning(text)) {
            return Barren::Refusal("a captcha");
        }
        let Some(page) = page else { return Barren::Other };
        if self.blocked_elements.iter().any(|selector| page.select(selector).next().is_some()) {
            return Barren::Refusal("an element of the portal file");
        }
        let password = Selector::parse("input[type=password]").expect("a valid selector");
        if page.select(&password).next().is_some() { Barren::Refusal("a login form") } else { Barren::Other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals() {
        let check = |status, mitigated, text, expected| {
            assert_eq!(refusal(status, mitigated, text), expected, "{status} {text}");
        };
        check(200, false, "<title>Empleos</title><script src='recaptcha/api.js'>", None);
        check(200, false, "<title>Just a moment...</title>", Some("a challenge page"));
        check(503, false, "<script>window._cf_chl_opt={}</script>", Some("a challenge page"));
        check(200, true, "", Some("a challenge page"));
        check(403, false, "", Some("status 403"));
        check(401, false, "", Some("status 401, a login is asked for"));
        check(451, false, "", Some("status 451, not available for legal reasons"));
        check(503, false, "mantenimiento", None);
        check(200, false, "<script src='/cdn-cgi/challenge-platform/h/b/scripts/jsd/main.js'>", None);
        check(200, false, "Vacante: analista. Access denied tickets y captcha.", None);
    }

    #[test]
    fn pages_without_ads() {
        let marks = Marks { error: vec!["Algo ha fallado".to_owned()], ..Marks::default() };
        let check = |text: &str, expected| {
            assert_eq!(marks.barren(text, Some(&Html::parse_document(text))), expected, "{text}");
        };
        check("<p>Algo ha fallado</p>", Barren::Error);
        check("<div class='g-recaptcha'>", Barren::Refusal("a captcha"));
        check("<form><input type=password>", Barren::Refusal("a login form"));
        check("<p>0 ofertas</p>", Barren::Other);
    }
}
