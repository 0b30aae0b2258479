//! Bumeran: one empty shell for every address, and a JSON interface behind it.
//!
//! Calls without the header `x-site-id` of the country get 400, as on the real portal.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde_json::{Value, json};

use super::{
    advertisement::{Ad, Layout},
    catalog::Found,
    clock,
    page::{self, Answer, PAGE_SIZE, Request},
    text::{Entities, fold, slug},
};

/// Most advertisements that a search may ask for at a time. Not tuned: the limit of the real
/// interface is not documented.
const MOST_A_PAGE: usize = 100;

/// Answers a request for any path of the site.
pub(crate) fn answer(request: &Request<'_>) -> Answer {
    if request.path == "/sitemap_avisos_bum.xml" {
        return sitemap(request);
    }
    // As on the real portal, a page holds no advertisement: readers have to find the interface.
    let Some(call) = request.path.strip_prefix("/api/") else { return shell() };
    match request.site_id {
        None => return error(400, "Falta el header x-site-id"),
        Some(site_id) if site_id != request.site.site_id() => {
            return error(400, &format!("El header x-site-id no es valido: {site_id}"));
        }
        Some(_) => {}
    }
    match (request.method, call) {
        ("POST", "avisos/searchV2") => search(request),
        (_, "avisos/searchV2") => error(405, "Metodo no permitido"),
        (_, call) => match call.strip_prefix("candidates/fichaAvisoNormalizada/") {
            Some(id) => detail(request, id),
            None => error(404, "Recurso no encontrado"),
        },
    }
}

/// The same for every address: no advertisement can be read from it.
fn shell() -> Answer {
    Answer::html(
        200,
        "<!DOCTYPE html><html lang=\"es\"><head><meta charset=\"utf-8\"><title>Bumeran - Empleos y trabajos</title>\
         <meta name=\"description\" content=\"Encontr&aacute; tu pr&oacute;ximo empleo\"></head><body><noscript>You need to \
         enable JavaScript to run this app.</noscript><div id=\"root\"></div><script src=\"/static/js/main.js\"></script>\
         </body></html>"
            .to_owned(),
    )
}

fn error(status: u16, message: &str) -> Answer {
    Answer::json(status, &json!({ "status": status, "message": message }))
}

fn sitemap(request: &Request<'_>) -> Answer {
    let listing = request.catalog.visible(request.wave).filter(|ad| ad.site == request.site);
    let entries: String =
        listing.map(|ad| format!("<url><loc>{}{}</loc></url>", request.origin, ad.path())).collect();
    let mut answer = Answer::text(
        200,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\
            {entries}</urlset>"
        ),
    );
    answer.content_type = "application/xml";
    answer
}

fn search(request: &Request<'_>) -> Answer {
    let (size, page) = match (number(request, "pageSize", PAGE_SIZE), number(request, "page", 0)) {
        (Ok(size), Ok(page)) => (size.clamp(1, MOST_A_PAGE), if request.loops { 0 } else { page }),
        (Err(answer), _) | (_, Err(answer)) => return answer,
    };
    let query = match Query::read(request) {
        Ok(query) => query,
        Err(message) => return error(400, &message),
    };
    let by_relevance = match request.value("sort") {
        None | Some("RELEVANTES") => true,
        Some("RECIENTES") => false,
        Some(other) => return error(400, &format!("sort no es valido: {other}")),
    };
    let today = clock::local_day(request.clock, request.site.country);
    let mut found: Vec<&Ad> = request.search(&[]).into_iter().filter(|ad| query.takes(ad, today)).collect();
    if by_relevance {
        // Any fixed order will do that is not the one by date.
        found.sort_by_key(|ad| ad.id.bytes().rev().collect::<Vec<_>>());
    }
    // Pages of the interface count from 0, those of `page_of` from 1.
    let (ads, _) = page::page_of(&found, page + 1, size);
    // A portal that never ends also promises more than there is.
    let total = if request.loops { found.len().max(1) * 1_000 } else { found.len() };
    let content: Vec<Value> = ads.iter().map(|ad| hit(request, ad)).collect();
    let body = json!({
        "filters": facets(&found),
        "number": page,
        "size": size,
        "total": total,
        "content": content,
        "totalSearched": total,
    });
    Answer::json(200, &body)
}

fn number(request: &Request<'_>, name: &str, default: usize) -> Result<usize, Answer> {
    match request.value(name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| error(400, &format!("{name} no es un numero: {text}"))),
    }
}

/// A search: a phrase of the title, and filters by facet.
struct Query {
    phrase: String,
    filters: Vec<(String, String)>,
}

impl Query {
    fn read(request: &Request<'_>) -> Result<Self, String> {
        let body: Value =
            serde_json::from_slice(request.body).map_err(|_| "El cuerpo no es JSON".to_owned())?;
        let phrase = body.get("query").map_or(Some(""), Value::as_str).ok_or("query no es un texto")?;
        let filters = body.get("filtros").and_then(Value::as_array).ok_or("Falta filtros")?;
        Ok(Self {
            phrase: fold(phrase.trim()),
            filters: filters.iter().map(filter).collect::<Result<_, _>>()?,
        })
    }

    fn takes(&self, ad: &Ad, today: NaiveDate) -> bool {
        fold(&ad.title).contains(&self.phrase)
            && self.filters.iter().all(|(id, value)| match id.as_str() {
                "area" => ad.area == value,
                "provincia" => province(ad) == *value,
                "modalidad_trabajo" => ad.mode.is_some_and(|mode| slug(mode) == *value),
                // Only the date is left: `filter` refuses all other names.
                _ => is_newer(ad, value, today),
            })
    }
}

fn filter(given: &Value) -> Result<(String, String), String> {
    let (id, value) = (given["id"].as_str(), given["value"].as_str());
    let (id, value) = id.zip(value).ok_or("filtros: se espera id y value")?;
    if !["area", "provincia", "modalidad_trabajo", "dias_fecha_publicacion"].contains(&id) {
        return Err(format!("filtros: {id} no es valido"));
    }
    Ok((id.to_owned(), value.to_owned()))
}

fn province(ad: &Ad) -> String {
    format!("{}|{}", slug(ad.site.country.name()), slug(region(ad)))
}

fn region(ad: &Ad) -> &str {
    ad.location.rsplit(", ").next().unwrap_or_default()
}

/// `publicacion-hoy`, `publicacion-menor-a-7-dias`, `publicacion-menor-a-1-mes`.
fn is_newer(ad: &Ad, value: &str, today: NaiveDate) -> bool {
    let Some(posted) = ad.posted_at else { return false };
    let days = (today - clock::local_day(posted, ad.site.country)).num_days();
    let most = match value.strip_prefix("publicacion-menor-a-") {
        Some("1-mes") => 31,
        Some(rest) => rest.strip_suffix("-dias").and_then(|days| days.parse().ok()).unwrap_or(0),
        None => 0,
    };
    days <= most
}

fn facets(found: &[&Ad]) -> Value {
    json!([
        facet(found, "provincia", |ad| (province(ad), region(ad).to_owned())),
        facet(found, "area", |ad| (ad.area.to_owned(), ad.area.to_owned())),
        facet(found, "modalidad_trabajo", |ad| {
            let mode = ad.mode.unwrap_or("Presencial");
            (slug(mode), mode.to_owned())
        }),
    ])
}

/// The values of a facet, each with its id, its name and how many advertisements have it.
fn facet(found: &[&Ad], name: &str, value: impl Fn(&Ad) -> (String, String)) -> Value {
    // Sorted, so that equal searches give equal facets.
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    for ad in found {
        *counts.entry(value(ad)).or_default() += 1;
    }
    let facets: Vec<Value> = counts
        .into_iter()
        .enumerate()
        .map(|(index, ((id, name), quantity))| {
            json!({ "id": (index + 1).to_string(), "idSemantico": id, "name": name, "quantity": quantity })
        })
        .collect();
    json!({ "type": name, "facets": facets })
}

fn shown_company(ad: &Ad) -> &str {
    ad.employer.name().unwrap_or("Confidencial")
}

/// Any fixed number that goes with a text.
fn number_of(text: &str) -> u64 {
    text.bytes().fold(17, |sum, byte| (sum * 31 + u64::from(byte)) % 900_000) + 1_000
}

/// An entry of a search: plain text without line breaks, no address, no salary.
fn hit(request: &Request<'_>, ad: &Ad) -> Value {
    let moment = ad.posted_at.map(|posted| posted.with_timezone(&request.site.country.offset()));
    let date = moment.map(|moment| moment.format("%d-%m-%Y").to_string());
    let time = moment.map(|moment| moment.format("%d-%m-%Y %H:%M:%S").to_string());
    let lines: Vec<&str> = ad.lines.iter().map(|line| line.text.as_str()).collect();
    json!({
        "id": ad.id.parse::<u64>().unwrap_or_default(),
        "titulo": ad.title,
        "detalle": lines.concat(),
        "aptoDiscapacitado": false,
        "idEmpresa": number_of(shown_company(ad)),
        "empresa": shown_company(ad),
        "confidencial": ad.employer.name().is_none(),
        "logoURL": null,
        "validada": false,
        "empresaPro": false,
        "fechaHoraPublicacion": time,
        "fechaPublicacion": date,
        "fechaModificado": time,
        "planPublicacion": { "id": 10, "nombre": "Avisos Simple" },
        "portal": "bumeran",
        "tipoTrabajo": ad.schedule,
        "idPais": number_of(ad.site.country.code()) % 20,
        "idArea": number_of(ad.area) % 40,
        "idSubarea": number_of(ad.area) % 200,
        "leido": null,
        "visitadoPorPostulante": null,
        "localizacion": ad.location,
        "cantidadVacantes": 1,
        "guardado": null,
        "gptwUrl": null,
        "promedioEmpresa": null,
        "modalidadTrabajo": ad.mode,
        "tienePreguntas": false,
        "salarioObligatorio": false,
        "altaRevisionPerfiles": false,
        "tipoAviso": "simple",
    })
}

fn detail(request: &Request<'_>, id: &str) -> Answer {
    match request.catalog.find(request.site, id, request.wave) {
        Found::Open(ad) => Answer::json(200, &json!({ "aviso": notice(request, ad, "activo") })),
        Found::Closed => Answer::json(200, &json!({ "aviso": { "id": id, "estado": "vencido" } })),
        Found::Never => error(404, "Aviso no encontrado"),
    }
}

fn named(name: &str) -> Value {
    json!({ "id": number_of(name), "nombre": name })
}

fn notice(request: &Request<'_>, ad: &Ad, state: &str) -> Value {
    let mut notice = hit(request, ad);
    // A search has these as plain texts, a detail as objects or under another name.
    for flat in ["detalle", "empresa", "confidencial", "localizacion", "modalidadTrabajo", "tipoTrabajo"] {
        notice.as_object_mut().map(|fields| fields.remove(flat));
    }
    let html = page::body_html(ad, Entities::Plain, "<br>");
    let has_paragraphs = ad.layout == Layout::Paragraphs;
    notice["descripcion"] = json!(if has_paragraphs { html } else { format!("<p>{html}</p>") });
    notice["empresa"] = json!({
        "id": number_of(shown_company(ad)),
        "denominacion": shown_company(ad),
        "confidencial": ad.employer.name().is_none(),
    });
    notice["localizacion"] = json!({ "detalle": ad.location, "pais": ad.site.country.name() });
    notice["tipoTrabajo"] = named(ad.schedule);
    notice["tipoContratacion"] = ad.contract.as_deref().map_or(Value::Null, named);
    notice["modalidadTrabajo"] = ad.mode.map_or(Value::Null, named);
    notice["nivelLaboral"] = named("Senior / Semi-Senior");
    notice["area"] = named(ad.area);
    notice["subArea"] = named(ad.area);
    notice["seoFriendlyUrl"] = json!(ad.path());
    notice["estado"] = json!(state);
    notice["redireccionURL"] = Value::Null;
    notice
}
