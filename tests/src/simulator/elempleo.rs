//! elempleo: server-rendered listings with entity-encoded JSON on every card and a list in JSON-LD.
//!
//! Names in JSON-LD hold HTML entities and its place is the country alone, as on the real portal.

use serde_json::json;

use super::{
    advertisement::Ad,
    catalog::Found,
    clock,
    page::{self, Answer, PAGE_SIZE, Request},
    text::{Entities, escape},
};

/// Answers a request for any path of the site; the country part `/co` of real addresses may be left
/// out.
pub(crate) fn answer(request: &Request<'_>) -> Answer {
    let inside = request.path.trim_start_matches('/');
    let path = match inside.split_once('/') {
        Some((country, rest)) if country.eq_ignore_ascii_case(request.site.country.code()) => rest,
        _ => inside,
    };
    if let Some(rest) = path.strip_prefix("ofertas-trabajo/") {
        return detail_page(request, rest.trim_end_matches('/'));
    }
    if path.starts_with("api/") {
        return Answer::json(401, &json!({ "message": "Authorization has been denied for this request." }));
    }
    if path == "ofertas-empleo" {
        return listing(request, "");
    }
    match path.strip_prefix("ofertas-empleo/") {
        Some(rest) => listing(request, rest.trim_end_matches('/')),
        None => page::not_found(request.site),
    }
}

/// `trabajo-<words>`, `<city>` or nothing, and `?q=`.
fn listing(request: &Request<'_>, rest: &str) -> Answer {
    let asked = request.value("q").map(super::text::slug).unwrap_or_default();
    let words: Vec<&str> = rest.strip_prefix("trabajo-").unwrap_or(rest).split(['-', '/']).collect();
    let found = request.search(&[words, asked.split('-').collect()].concat());
    let number = request.page_number("page");
    let (ads, more) = page::page_of(&found, number, PAGE_SIZE);
    let mut page = head("Ofertas de empleo | elempleo");
    page.push_str(&item_list(request, ads));
    page.push_str(&format!(
        "<h1 class=\"h3\"><strong class=\"js-total-results\">{}</strong> ofertas de empleo</h1>\n\
         <div class=\"result-list js-result-list js-results-container\">\n",
        found.len()
    ));
    if ads.is_empty() {
        page.push_str("<div class=\"no-results\"><p>No encontramos ofertas con tu b&#250;squeda</p></div>\n");
    }
    for (index, ad) in ads.iter().enumerate() {
        page.push_str(&card(request, ad, index + 1));
    }
    page.push_str("</div>\n");
    if (more || request.loops) && !ads.is_empty() {
        let query = request.value("q").map(|_| format!("q={asked}&amp;")).unwrap_or_default();
        let (root, path) = (request.site.root(), request.path);
        page.push_str(&format!(
            "<ul class=\"pagination\"><li><a class=\"btn js-btn-next\" href=\"{root}{path}?{query}page={}\">Siguiente</a></li></ul>\n",
            number + 1
        ));
    }
    page.push_str("</body></html>\n");
    Answer::html(200, page)
}

fn head(title: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=\"es-CO\"><head><meta charset=\"utf-8\"><title>{title}</title></head><body>\n\
         <nav class=\"navbar\"><a href=\"#\">Ingresar</a> <a href=\"#\">Registrar hoja de vida</a></nav>\n"
    )
}

/// The list in JSON-LD; names hold HTML entities, as on the real site.
fn item_list(request: &Request<'_>, ads: &[&Ad]) -> String {
    let listing = format!("{}{}{}", request.origin, request.site.root(), request.path);
    let items: Vec<serde_json::Value> = ads
        .iter()
        .enumerate()
        .map(|(index, ad)| {
            json!({
                "@type": "ListItem",
                "position": index + 1,
                "item": {
                    "@id": format!("{}{}", request.origin, ad.path()),
                    "@type": "WebPage",
                    "name": encode(&ad.title),
                }
            })
        })
        .collect();
    let list = json!({
        "@context": "https://schema.org",
        "@type": "ItemList",
        "@id": format!("{listing}#itemlist"),
        "name": "Ofertas de empleo",
        "itemListOrder": "https://schema.org/ItemListOrderDescending",
        "numberOfItems": items.len(),
        "itemListElement": items,
    });
    format!("<script type=\"application/ld+json\" id=\"itemListStructuredData\">\n{list:#}\n</script>\n")
}

fn encode(text: &str) -> String {
    escape(text, Entities::Decimal)
}

fn shown_company(ad: &Ad) -> &str {
    ad.employer.name().unwrap_or("Empresa confidencial")
}

fn card(request: &Request<'_>, ad: &Ad, position: usize) -> String {
    let offer = json!({
        "section": "SEARCH",
        "id": ad.id.parse::<u64>().unwrap_or_default(),
        "title": ad.title,
        "company": shown_company(ad),
        "location": ad.location,
        "salary": ad.salary,
        "position": position,
    });
    let (path, title) = (ad.path(), encode(&ad.title));
    format!(
        "<div class=\"col-md-12 result-item mb-3 bg-white\">\n    <div class=\"col-md-12 p-0 js-area-bind area-bind\" \
         data-url=\"{path}\" data-ga4-offerdata=\"{}\">\n        <div class=\"col-md-7 p-0 list-unstyled result-info m-0\">\n\
         <h2 class=\"h4 item-title ee-mod m-0\">\n                    <a class=\"text-ellipsis js-offer-title fw-bold \
         text-decoration-none fs-5 two-lines titulo\"\n                       href=\"{path}\"\n                       \
         title=\"{title}\">\n                        {title}\n                    </a>\n                </h2>\n\
         <h3 class=\"company-name-text ee-mod\"><span><span class=\"info-company-name js-offer-company fs-6 two-lines \
         text-blue-petrol-dark\">\n                                {}\n                            </span></span></h3>\n{}\
         </div>\n        <div class=\"border-vh col-md-4 pt-3 pt-lg-0 p-0 ps-md-3 w-auto\">\n{}{}\
         <div class=\"small\">\n                <div>\n                    <span><span><span class=\"info-city js-offer-city \
         text-blue-petrol-dark\">\n{}                            </span></span></span>\n                </div>\n                \
         <div class=\"small-text pb-2 text-medium-gray\">\n                    Ubicaci&#243;n\n                </div>\n            \
         </div>\n        </div>\n    </div>\n</div>\n\n",
        encode(&offer.to_string()),
        encode(shown_company(ad)),
        date(request, ad),
        pair(ad.salary.as_deref(), "Salario"),
        pair(ad.contract.as_deref(), "Tipo de contrato"),
        encode(&ad.location),
    )
}

fn date(request: &Request<'_>, ad: &Ad) -> String {
    let Some(posted) = ad.posted_at else { return String::new() };
    let age = clock::age(posted, request.clock, request.site.country, " ");
    format!(
        "            <div class=\"d-none d-lg-block\"><div class=\"content-tags\">\n                    <span class=\"rounded-pill \
         px-3 info-publish-date pull-right js-offer-date mi-etiqueta\">\n                        <i class=\"fa fa-clock-o icon\" \
         aria-hidden=\"true\"></i>\n                        {}\n                    </span>\n                </div></div>\n",
        encode(&age)
    )
}

fn pair(value: Option<&str>, label: &str) -> String {
    let Some(value) = value else { return String::new() };
    format!(
        "            <div class=\"small\">\n                <div class=\"text-blue-petrol-dark\">\n                    {}\n                \
         </div>\n                <div class=\"small-text pb-2 text-medium-gray\">\n                    {label}\n                \
         </div>\n            </div>\n",
        encode(value)
    )
}

fn detail_page(request: &Request<'_>, rest: &str) -> Answer {
    let id = rest.rsplit('-').next().unwrap_or_default();
    match request.catalog.find(request.site, id, request.wave) {
        Found::Open(ad) => Answer::html(200, detail(request, ad)),
        Found::Closed | Found::Never => page::not_found(request.site),
    }
}

fn detail(request: &Request<'_>, ad: &Ad) -> String {
    let published = ad.posted_at.map_or_else(String::new, |posted| {
        let age = clock::age(posted, request.clock, request.site.country, " ");
        format!("<span class=\"js-publish-date\">{}</span>\n", encode(&age))
    });
    format!(
        "{}{}<h1 class=\"ee-offer-title\"><span class=\"js-jobOffer-title\">{}</span></h1>\n<div class=\"eeoffer-data\">\n\
         <strong class=\"js-company-name\">{}</strong>\n<span class=\"js-joboffer-salary\">{}</span>\n\
         <span class=\"js-joboffer-city\">{}</span>\n<span class=\"js-position-area\">{}</span>\n{published}</div>\n\
         <div class=\"description-block e-container-keywords\">\n<h2 class=\"fw-bold text-dark h3 mb-3\">\n        \
         Descripci&#243;n del cargo\n    </h2>\n<p class=\"mb-0\">\n        {}\n    </p>\n</div>\n<div class=\"apply\">\
         <a href=\"#\">Aplicar a esta oferta</a></div>\n</body></html>\n",
        head(&format!("{} | elempleo", encode(&ad.title))),
        job_posting(request, ad),
        encode(&ad.title),
        encode(shown_company(ad)),
        encode(ad.salary.as_deref().unwrap_or_default()),
        encode(&ad.location),
        encode(ad.area),
        page::body_html(ad, Entities::Plain, " \n<br/>"),
    )
}

/// The advertisement in JSON-LD, whose place is the country alone.
fn job_posting(request: &Request<'_>, ad: &Ad) -> String {
    let mut posting = json!({
        "@context": "https://schema.org/",
        "@type": "JobPosting",
        "title": encode(&ad.title),
        "description": page::body_html(ad, Entities::Decimal, "<br/>"),
        "identifier": { "@type": "PropertyValue", "value": ad.id },
        "hiringOrganization": { "@type": "Organization", "name": encode(shown_company(ad)) },
        "jobLocation": { "@type": "Place", "address": { "@type": "PostalAddress", "addressCountry": "CO" } },
    });
    if let Some(posted) = ad.posted_at {
        posting["datePosted"] = json!(clock::local_day(posted, request.site.country).to_string());
    }
    format!("<script type=\"application/ld+json\">{posting}</script>\n")
}
