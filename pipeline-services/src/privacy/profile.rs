//! Links to persons and groups on networks and messengers, and handles behind the names of
//! networks.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::{Found, Kind, Words, compiled, names, view::View, words};

static LINK: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r#"(?:https?://)?(?:(?:www|m|web|mobile|api|chat|[a-z]{2}(?:-[a-z]{2})?|open)\.)?(linkedin\.com|lnkd\.in|instagram\.com|instagr\.am|facebook\.com|fb\.com|fb\.me|m\.me|messenger\.com|tiktok\.com|x\.com|twitter\.com|threads\.net|threads\.com|t\.me|telegram\.me|telegram\.dog|wa\.me|wa\.link|wa\.me|whatsapp\.com|walink\.co|calendly\.com|linktr\.ee|linktree\.com|beacons\.ai|bio\.link|about\.me|github\.com|gitlab\.com|youtube\.com|join\.skype\.com|discord\.gg|discord\.com|snapchat\.com|pinterest\.com|behance\.net|kwai\.com|signal\.me|whats\.link|wame\.pro)/([^\s<>"')\]\x01-\x08]*)"#,
    )
});
static SCHEME: LazyLock<Regex> = LazyLock::new(|| {
    compiled(r#"\b(?:whatsapp|tg|skype|viber|fb-messenger|instagram)://?[^\s<>"')\]\x01-\x08]+"#)
});

/// First parts of paths that lead to no person.
static PLACES: LazyLock<Words> = LazyLock::new(|| {
    words(
        "jobs job company school showcase learning feed pulse posts groups group marketplace events event \
        business ads legal help policies privacy terms explore hashtag search share sharer sharer.php intent \
        watch careers reel reels p tv login signup about home i settings stories topics features pricing \
        playlist results shorts embed download downloads faq tag discover developers collections security \
        enterprise trending apps channels",
    )
});

/// Finds links and handles.
pub(super) fn find(view: &View<'_>, found: &mut Found) {
    for link in LINK.captures_iter(view.text()) {
        let (Some(whole), Some(host), Some(path)) = (link.get(0), link.get(1), link.get(2)) else { continue };
        let before = view.byte_before(whole.start());
        // `x.com` also ends `netflix.com`, and a mailbox may stand before it.
        let part = before.is_ascii_alphanumeric() || b"-_.@/".contains(&before);
        if !part && is_personal(host.as_str(), path.as_str()) {
            let end =
                whole.start() + whole.as_str().trim_end_matches(|sign: char| ".,;:!?*…".contains(sign)).len();
            found.push((whole.start()..end, Kind::Profile));
        }
    }
    found.extend(SCHEME.find_iter(view.text()).map(|link| (link.range(), Kind::Profile)));
}

/// Returns whether a path on a network leads to a person or a conversation.
pub(super) fn is_personal(host: &str, path: &str) -> bool {
    let mut parts =
        path.split(['/', '?', '#']).map(|part| part.trim_matches(|sign: char| ".,;:!".contains(sign)));
    let first = parts.next().unwrap_or_default();
    let second = parts.next().unwrap_or_default();
    if first.is_empty() {
        return false;
    }
    match host {
        // Pages of companies, schools and jobs stay.
        "linkedin.com" => matches!(first, "in" | "pub" | "mwlite") && !second.is_empty(),
        "whatsapp.com" => {
            // The codes that invite to a group are long.
            first.starts_with("send") || first.len() >= 12 || matches!(first, "channel" | "invite")
        }
        "youtube.com" => first.starts_with('@') || matches!(first, "user" | "c" | "channel"),
        "tiktok.com" | "threads.net" | "threads.com" => first.starts_with('@'),
        // With a second part it is a repository.
        "github.com" | "gitlab.com" => second.is_empty() && !PLACES.contains(first),
        "discord.com" => matches!(first, "invite" | "users"),
        _ => !PLACES.contains(first),
    }
}

static HANDLE: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"\b(linkedin|instagram|insta|ig|facebook|face|fb|messenger|tiktok|tik tok|twitter|x|telegram|tg|skype|threads|youtube|discord|snapchat|github|kwai|teams)\b[ \n]?(?:[:=(]{1,2}|/|- )? ?(?:(?:de|como|usuario|user|id|es|personal|perfil)(?: ?: ?| )){0,2}(@ ?|/?in/|/|live: ?|)([a-z0-9][a-z0-9._-]{2,40}|\.cid\.[0-9a-f]{6,20})",
    )
});

/// Words before an `@` that make what follows a handle.
static CUES: LazyLock<Words> = LazyLock::new(|| {
    words(
        "siguenos seguinos sigue sigueme siganos escribele escribeme escribenos escribinos escribe escribir \
        escriba contacta contactar contactame contactanos contacto usuario user username perfil cuenta dm md \
        mensaje mensajes inbox encuentranos encuentrame buscame buscanos buscar agregame agreganos agrega \
        redes etiqueta directo canal visitanos visita conocenos siga nos hablar fale chama comunicate \
        comunicarse reclutador linkedin instagram insta ig facebook fb tiktok twitter telegram skype threads \
        discord github",
    )
});

/// Finds handles; after addresses are gone, since those have an `@` too.
pub(super) fn handles(view: &View<'_>, found: &mut Found) {
    for handle in HANDLE.captures_iter(view.text()) {
        let (Some(network), Some(sign), Some(name)) = (handle.get(1), handle.get(2), handle.get(3)) else {
            continue;
        };
        let before = view.byte_before(network.start());
        let name_end = handle_end(view, name.start(), name.as_str());
        let shaped = looks_like_handle(&view.text()[name.start()..name_end]);
        let fits = match sign.as_str().trim() {
            "@" | "live:" => true,
            "in/" | "/in/" => true,
            _ => {
                let pointed = view.text()[network.end()..sign.start()].contains(':');
                // These are ordinary words as well, so a colon must follow them.
                shaped && (pointed || !matches!(network.as_str(), "x" | "tg" | "face" | "teams"))
            }
        };
        if fits && before != b'.' && before != b'@' && !is_host(&view.text()[name.start()..name_end]) {
            // `@` and `live:` go with the handle, `in/` is the network's.
            let start = if sign.as_str().starts_with("live") { sign.start() } else { name.start() };
            let start = if sign.as_str().starts_with('@') { sign.start() } else { start };
            found.push((start..name_end, Kind::Profile));
        }
    }
    cued(view, found);
}

static SIGNED: LazyLock<Regex> = LazyLock::new(|| compiled(r"@ ?([a-z][a-z0-9._-]{2,40})"));

/// Handles behind words such as "síguenos", and those made of a person's name.
fn cued(view: &View<'_>, found: &mut Found) {
    for signed in SIGNED.captures_iter(view.text()) {
        let (Some(whole), Some(name)) = (signed.get(0), signed.get(1)) else { continue };
        let start = whole.start();
        let before = view.byte_before(start);
        let taken = found.iter().rev().take(4).any(|(range, _)| range.start <= start && start < range.end);
        if taken || before.is_ascii_alphanumeric() || matches!(before, b'@' | b'/') || before >= 0x80 {
            continue;
        }
        let cued = view.words_before(start, 40).iter().take(3).any(|word| CUES.contains(word.text));
        let text = &view.text()[name.start()..handle_end(view, name.start(), name.as_str())];
        let person = names::is_joined_name(text);
        let blank = whole.as_str().starts_with("@ ");
        if (cued && !blank && view.byte(whole.end()) != b'/') || person {
            found.push((start..name.start() + text.len(), Kind::Profile));
        }
    }
}

/// End of a handle: before its last signs, and before a full stop with a sentence glued to it.
fn handle_end(view: &View<'_>, start: usize, name: &str) -> usize {
    let glued = name.match_indices('.').map(|(at, _)| at).find(|at| {
        view.is_upper(start + at + 1) && !view.is_upper(start + at + 2) && !view.is_upper(start + at - 1)
    });
    let name = &name[..glued.unwrap_or(name.len())];
    start + name.trim_end_matches(['.', '-', '_']).len()
}

/// Returns whether a token without `@` can be nothing but a handle: it holds a digit, `_` or a dot,
/// or is a joined name.
fn looks_like_handle(token: &str) -> bool {
    let letters = token.bytes().filter(u8::is_ascii_lowercase).count();
    let signs = token.bytes().any(|byte| byte.is_ascii_digit() || matches!(byte, b'_' | b'.'));
    let begins = token.starts_with(|letter: char| letter.is_ascii_lowercase());
    begins && token.len() >= 5 && ((letters >= 3 && signs) || names::is_joined_name(token))
}

/// `empresa.com`, and what else ends like a host.
fn is_host(token: &str) -> bool {
    [".com", ".net", ".org", ".co", ".ar", ".mx", ".cl", ".pe", ".br", ".js", ".io"]
        .iter()
        .any(|end| token.ends_with(end))
}

/// The part of a web address that leads to a person, from the end of its host on.
pub(super) fn personal_path(address: &str) -> Option<Range<usize>> {
    let link = LINK.captures(address)?;
    let (whole, host, path) = (link.get(0)?, link.get(1)?, link.get(2)?);
    (whole.start() == 0 && is_personal(host.as_str(), path.as_str())).then(|| path.start()..address.len())
}
