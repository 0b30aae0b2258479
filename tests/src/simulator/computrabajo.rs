//! Computrabajo: server-rendered listings and details, the same template in every country.
//!
//! Pages carry what misleads a careless reader: similar advertisements, a pane for templates, links
//! that no visitor sees and robots.txt forbids.

use super::{
    advertisement::{Ad, Employer},
    catalog::Found,
    clock,
    page::{self, Answer, PAGE_SIZE, Request},
    text::{Entities, escape, slug},
};

/// Answers a request for any path of the site.
pub(crate) fn answer(request: &Request<'_>) -> Answer {
    let path = request.path;
    if let Some(detail) = path.strip_prefix("/ofertas-de-trabajo/oferta-de-trabajo-de-") {
        return detail_page(request, detail);
    }
    // Answered like any page: only the log tells who ignores robots.txt.
    if ["/Ajax/", "/_services/"].iter().any(|private| path.starts_with(private)) {
        return Answer::text(200, "ok".to_owned());
    }
    match words_of(path) {
        Some(words) => listing(request, &words),
        None => page::not_found(request.site),
    }
}

/// The words that a listing's path asks for: `/trabajo-de-x[-en-y]`, `/empleos-en-y`,
/// `/empleos-de-x`, `/ofertas-de-trabajo/`.
fn words_of(path: &str) -> Option<Vec<&str>> {
    let rest = match path.trim_end_matches('/') {
        "" | "/ofertas-de-trabajo" | "/empleos" => "",
        path => ["/trabajo-de-", "/empleos-en-", "/empleos-de-"]
            .iter()
            .find_map(|start| path.strip_prefix(start))?,
    };
    (!rest.contains('/')).then(|| rest.split('-').collect())
}

fn listing(request: &Request<'_>, words: &[&str]) -> Answer {
    let found = request.search(words);
    let number = request.page_number("p");
    let (ads, more) = page::page_of(&found, number, PAGE_SIZE);
    let mut page =
        head(&format!("Trabajo de {} | Ofertas laborales", escape(&words.join(" "), Entities::Hexadecimal)));
    page.push_str(&format!(
        "<div class=\"box_title\"><h1 class=\"title_page\"><span class=\"fwB\">{}</span> Ofertas de trabajo</h1></div>\n",
        found.len()
    ));
    page.push_str(&filters(request));
    if ads.is_empty() {
        page.push_str(
            "<div class=\"tc mbB pt30 pb30\"><p>No se han encontrado ofertas de trabajo con los filtros \
            actuales</p></div>\n",
        );
    }
    for (index, ad) in ads.iter().enumerate() {
        page.push_str(&card(request, ad, index));
    }
    page.push_str(&pager(request, number, (more || request.loops) && !ads.is_empty()));
    page.push_str(DETAIL_TEMPLATE);
    page.push_str(&json_ld(request, ads));
    page.push_str("</main></body></html>\n");
    Answer::html(200, page)
}

fn head(title: &str) -> String {
    format!(
        "<!DOCTYPE html><html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"es\"><head>\n<title>{title}</title>\n\
         <meta http-equiv=\"Content-Type\" content=\"text/html; charset=utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1.0\">\n</head><body>\n<header class=\"menu\"><nav><ul>\
         <li><a href=\"#\">Buscar empleos</a></li><li><a href=\"#\">Crear alerta</a></li><li><a href=\"#\">Salarios\
         </a></li></ul></nav></header>\n<main class=\"container\">\n"
    )
}

/// Filters that robots.txt forbids, and a link that no visitor sees.
fn filters(request: &Request<'_>) -> String {
    format!(
        "<ul class=\"field_select_links small\"><li><span class=\"buildLink \" data-path=\"?pubdate=7\" \
         rel=\"nofollow\"> &#xDA;ltima semana </span><span class=\"tag\"> 96 </span></li><li><span class=\"buildLink cp\" \
         data-path=\"?by=salary\"> Salario </span></li></ul>\n<a class=\"hide\" rel=\"nofollow\" \
         href=\"{}/Ajax/offers\">Ofertas</a>\n",
        request.site.root()
    )
}

fn card(request: &Request<'_>, ad: &Ad, index: usize) -> String {
    let id = &ad.id;
    // Attributes in either kind of quotes: a reader with patterns instead of a parser fails.
    let quote = if index.is_multiple_of(2) { '\'' } else { '"' };
    // The fragment is not part of the address of an advertisement.
    let href = format!("{}#lc=ListOffers-Score4-{index}", ad.path());
    let title = escape(&ad.title, Entities::Hexadecimal);
    let selected = if index == 0 { "sel" } else { "" };
    format!(
        "<article class=\"box_offer {selected} \" data-id={quote}{id}{quote} data-blind=\"{}\" id=\"{id}\" \
         data-lc=\"ListOffers-Score4-{index}\" data-offers-grid-offer-item-container>\n    <h2 class=\"fs18 fwB prB\">\n        \
         <a class=\"js-o-link fc_base\" href=\"{href}\">\n            {title}\n        </a>\n        \
         <div class=\"tags\">\n            <span class=\"tag postulated hide\" applied-offer-tag>\n                \
         <span class=\"icon i_check_circle_full mr5\"></span>\n                Postulado\n            </span>\n            \
         <span class=\"tag hide\" viewed-offer-tag>\n                Vista\n            </span>\n        </div>\n    </h2>\n    \
         <p class=\"dFlex vm_fx fs16 fc_base mt5\">\n{}    </p>\n    <p class=\"fs16 fc_base mt5\">\n        \
         <span class=\"mr10\">\n            {}\n        </span>\n    </p>\n{}{}    <div class=\"opt_dots\" shortcut-show>\n        \
         <div class=\"opt_bubble\" shortcut-child><span class=\"dB\">Guardar en Mis favoritos</span></div>\n    </div>\n\
         </article>\n",
        ad.employer == Employer::Confidential,
        employer(request, ad),
        escape(&ad.location, Entities::Hexadecimal),
        conditions(ad),
        age(request, ad, "fs13 fc_aux mt15", ""),
    )
}

fn employer(request: &Request<'_>, ad: &Ad) -> String {
    let Employer::Named(name) = &ad.employer else {
        let shown = escape(ad.employer.name().unwrap_or("Confidencial"), Entities::Hexadecimal);
        return format!("            {shown}\n");
    };
    // From the name, so that a company has the same rating on every page.
    let sum = name.bytes().map(u32::from).sum::<u32>();
    let rating = if sum.is_multiple_of(2) {
        format!(
            "            <span class=\"fx_none mr10\">\n                <span class=\"fwB\">\n                    {},{}\n                \
             </span>\n                <span class=\"star\"></span>\n            </span>\n",
            3 + sum % 2,
            sum % 10
        )
    } else {
        String::new()
    };
    format!(
        "{rating}            <span class=\"icon i_verificada mr5\"></span>\n            <a class=\"fc_base t_ellipsis\" \
         href=\"{}/empresas/ofertas-de-trabajo-de-{}-{:016X}\" target='_blank' offer-grid-article-company-url>\n                \
         {}\n            </a>\n",
        request.site.root(),
        slug(name),
        u64::from(sum).wrapping_mul(0x9E37_79B9_7F4A_7C15),
        escape(name, Entities::Hexadecimal)
    )
}

/// Salary and place of work, where there are any; no "A convenir" on cards.
fn conditions(ad: &Ad) -> String {
    let salary = ad.salary.as_deref().filter(|salary| salary.starts_with('$'));
    let mode = ad.mode.filter(|mode| *mode != "Presencial");
    let mode_icon = if mode == Some("Remoto") { "i_home" } else { "i_home_office" };
    let mut spans = String::new();
    for (icon, text) in
        salary.map(|text| ("i_salary", text)).into_iter().chain(mode.map(|text| (mode_icon, text)))
    {
        let text = escape(text, Entities::Hexadecimal).replace('+', "&#x2B;");
        spans.push_str(&format!(
            "            <span class=\"dIB mr10\">\n                <span class=\"icon {icon}\"></span>\n                \
             {text}\n            </span>\n"
        ));
    }
    if spans.is_empty() { spans } else { format!("    <div class=\"fs13 mt15\">\n{spans}    </div>\n") }
}

fn age(request: &Request<'_>, ad: &Ad, class: &str, suffix: &str) -> String {
    let Some(posted) = ad.posted_at else { return String::new() };
    let age = clock::age(posted, request.clock, request.site.country, "  ");
    format!("    <p class=\"{class}\">\n        {}{suffix}\n    </p>\n", escape(&age, Entities::Hexadecimal))
}

fn pager(request: &Request<'_>, number: usize, more: bool) -> String {
    if !more && number == 1 {
        return String::new();
    }
    let listing = format!("{}{}{}", request.origin, request.site.root(), request.path);
    let back = pager_link("Anterior", (number > 1).then(|| format!("{listing}?p={}", number - 1)));
    let next = pager_link("Siguiente", more.then(|| format!("{listing}?p={}", number + 1)));
    format!("<div class=\"dFlex vm_fx tj_fx mtB\">\n            {back}\n            {next}\n    </div>\n")
}

/// A button of the pager, disabled without a target.
fn pager_link(text: &str, target: Option<String>) -> String {
    match target {
        Some(target) => format!(
            "<span class=\"b_primary w48 buildLink cp\" data-path=\"{target}\" title=\"{text}\">\n                \
             {text}\n            </span>"
        ),
        None => format!(
            "<span class=\"b_primary_inv fwB disabled w48 cp\">\n                {text}\n            </span>"
        ),
    }
}

/// The pane that the browser fills in: its braces must not leak into anybody's data.
const DETAIL_TEMPLATE: &str = "<script type=\"text/x-handlebars-template\" id=\"offer-template\">\n<div>{{#if ahehci}}\
    <input type=\"hidden\" value=\"{{ehci}}\" />{{/if}}<p class=\"title_offer fs21 fwB lh1_2\" \
    data-offers-grid-detail-title>{{ms_ltr}}</p></div>\n</script>\n<div class=\"hide\" hidden-offer-banner><p> Ocultaste \
    esta oferta, pulsa <a data-oi=\"{{eoi}}\">Recuperar oferta</a></p></div>\n";

/// One block with @graph: who, what page, and the addresses of most of the cards.
fn json_ld(request: &Request<'_>, ads: &[&Ad]) -> String {
    let origin = request.origin;
    let listed: Vec<serde_json::Value> = ads
        .iter()
        // One less than the cards: a reader that goes by this list alone misses one.
        .take(PAGE_SIZE - 1)
        .enumerate()
        .map(|(index, ad)| {
            serde_json::json!({
                "url": format!("{origin}{}", ad.path()),
                "position": index + 1,
                "@context": "https://schema.org/",
                "@type": "ListItem"
            })
        })
        .collect();
    let graph = serde_json::json!({ "@graph": [
        { "name": "Computrabajo", "url": format!("{origin}{}", request.site.root()),
          "@context": "https://schema.org/", "@type": "Organization" },
        { "name": "Ofertas de trabajo", "@context": "https://schema.org/", "@type": "WebPage" },
        { "itemListElement": listed, "@context": "https://schema.org/", "@type": "ItemList" }
    ] });
    format!("<script type=\"application/ld+json\">{graph}</script>\n")
}

fn detail_page(request: &Request<'_>, rest: &str) -> Answer {
    let id = rest.rsplit('-').next().unwrap_or_default().to_uppercase();
    match request.catalog.find(request.site, &id, request.wave) {
        Found::Open(ad) => Answer::html(200, detail(request, ad)),
        // A finished advertisement leads to a listing.
        Found::Closed => Answer::redirect(format!("{}/ofertas-de-trabajo/", request.site.root())),
        Found::Never => page::not_found(request.site),
    }
}

fn detail(request: &Request<'_>, ad: &Ad) -> String {
    let title = escape(&ad.title, Entities::Hexadecimal);
    let shown = ad.employer.name().unwrap_or("Confidencial");
    let place = escape(&format!("{shown} - {}", ad.location), Entities::Hexadecimal);
    // Both levels occur, so a reader cannot rely on one.
    let heading = if ad.id.as_bytes()[0].is_multiple_of(2) { "h2" } else { "h3" };
    let mut page = head(&format!("{title} | Computrabajo"));
    page.push_str(&format!(
        "<h1 class=\"fwB fs24 mb5 box_detail w100_m\">{title}</h1>\n<p class=\"fs16\">{place}</p>\n<div class=\"box_detail\">\n\
         <div class=\"mb40 pb40 bb1\" div-link=\"oferta\">\n<{heading} class=\"fwB fs18 mb20\">Descripci&#xF3;n de la \
         oferta</{heading}>\n<div class=\"mbB\">\n{}</div>\n<p class=\"mbB\">{}</p>\n{}{}{}</div>\n</div>\n{}</main></body></html>\n",
        tags(ad),
        page::body_html(ad, Entities::Plain, "<br/>"),
        requirements(ad),
        skill_tags(ad),
        footer(request, ad),
        similar(request, ad)
    ));
    page
}

/// Salary, contract, working time and mode, not always in that order.
fn tags(ad: &Ad) -> String {
    let mut tags: Vec<&str> = [ad.salary.as_deref(), ad.contract.as_deref(), Some(ad.schedule), ad.mode]
        .into_iter()
        .flatten()
        .collect();
    // A reader that goes by the place of a tag takes the contract for the salary.
    if ad.id.as_bytes()[1].is_multiple_of(4) {
        tags.rotate_left(1);
    }
    let mut spans = String::new();
    for tag in tags {
        let tag = escape(tag, Entities::Hexadecimal);
        spans.push_str(&format!("<span class=\"tag base mb10\">{tag}</span>\n"));
    }
    spans
}

fn requirements(ad: &Ad) -> String {
    if ad.requirements.is_empty() {
        return String::new();
    }
    let mut items = String::new();
    for item in &ad.requirements {
        items.push_str(&format!("<li class=\"mb10\">{}</li>", escape(item, Entities::Plain)));
    }
    format!("<p class=\"fwB fs18 mtB mb10\">Requerimientos</p>\n<ul class=\"disc mbB\">\n{items}\n</ul>\n")
}

fn skill_tag(word: &str) -> String {
    let sum = word.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
    let word = escape(word, Entities::Plain);
    format!(
        "<span class=\"tag bg_brand_light fc_base mr5 mt10 big\" data-skill-id=\"{sum:016X}\">{word}</span>\n"
    )
}

fn skill_tags(ad: &Ad) -> String {
    let tags: String = ad.keywords.iter().map(|word| skill_tag(word)).collect();
    format!(
        "<p class=\"fwB fs18 mtB mb10\">Aptitudes asociadas a esta oferta<span class=\"new tag\">Nuevo</span></p>\n{tags}\
         <div box-skill-offer=\"\" class=\"sub_box bg_brand_light mtB mbB hide\"><p class=\"fwB mb10\">Hay \
         <span box-counter-skill-offer=\"\">0</span> aptitudes que faltan en tu perfil</p></div>\n"
    )
}

fn footer(request: &Request<'_>, ad: &Ad) -> String {
    let suffix = if ad.version > 1 { " (actualizada)" } else { "" };
    format!(
        "<p class=\"fc_aux fs13 mbB mtB\">Palabras clave: {}, empleado, colaborador</p>\n{}<div class=\"posSticky_m bottom0\">\
         <a class=\"b_primary big\" data-href-offer-apply=\"{}/match/?oi={}\" rel=\"nofollow\">\n\t\t\t\tAplicar\n\t\t\t</a>\
         <a already-applied-btn=\"\" class=\"b_primary big postulated hide\">Postulado</a></div>\n<a \
         data-create-alert=\"downapplybutton\">Av&#xED;same con ofertas similares</a>\n",
        ad.area,
        age(request, ad, "fc_aux fs13", suffix),
        request.site.root(),
        ad.id
    )
}

/// Other advertisements on the page of this one: their text belongs to them.
fn similar(request: &Request<'_>, ad: &Ad) -> String {
    let visible = request.catalog.visible(request.wave);
    let others =
        visible.filter(|other| other.site == ad.site && other.area == ad.area && other.id != ad.id).take(3);
    let mut links = String::new();
    for other in others {
        let (title, city) =
            (escape(&other.title, Entities::Hexadecimal), escape(other.city, Entities::Hexadecimal));
        links.push_str(&format!("<li><a href=\"{}\">{title}</a><p>{city}</p></li>", other.path()));
    }
    format!("<aside class=\"box_border\"><p class=\"fwB\">Ofertas similares</p><ul>{links}</ul></aside>\n")
}
