//! Converts a schema.org `JobPosting` to an advertisement with our fields.
//!
//! Members without a field of ours keep their names, so that they are reported as not used.

use serde_json::{Map, Value};

use super::{pay, values};

/// Members with requirements for candidates.
const REQUIREMENTS: [&str; 4] =
    ["qualifications", "skills", "experienceRequirements", "educationRequirements"];

/// Members that are used elsewhere, or say nothing about the job.
const TAKEN: [&str; 3] = ["@context", "@type", "salaryCurrency"];

/// The objects inside a JSON-LD document: its graph, or the items of its list.
pub(super) fn parts(object: &Map<String, Value>) -> Option<&Vec<Value>> {
    ["@graph", "itemListElement"].iter().find_map(|name| object.get(*name)?.as_array())
}

/// The posting inside an element of a list.
pub(super) fn item(object: &Map<String, Value>) -> Option<&Map<String, Value>> {
    object.get("item").filter(|_| is_of(object, "ListItem"))?.as_object()
}

/// True if a JSON-LD object has a type, possibly among others, or prefixed by its vocabulary.
pub(super) fn is_of(object: &Map<String, Value>, kind: &str) -> bool {
    match object.get("@type") {
        Some(Value::Array(names)) => names.iter().any(|name| is_named(name, kind)),
        Some(name) => is_named(name, kind),
        None => false,
    }
}

fn is_named(name: &Value, kind: &str) -> bool {
    name.as_str().is_some_and(|name| name.rsplit(['/', ':', '#']).next() == Some(kind))
}

/// True if a JSON-LD object is not a posting, but for example the page around it.
pub(super) fn is_other(object: &Map<String, Value>) -> bool {
    object.contains_key("@type") && !is_of(object, "JobPosting") && !object.contains_key("description")
}

/// Converts a posting to our field names; other members keep theirs.
pub(super) fn fields(object: &Map<String, Value>) -> Map<String, Value> {
    let plain: Map<String, Value> =
        object.iter().map(|(name, value)| (bare(name).to_owned(), value.clone())).collect();
    let mut taken: Vec<&str> = TAKEN.to_vec();
    let mut fields = Map::new();
    let member = |name: &str| plain.get(name).filter(|value| !value.is_null()).cloned();
    let sources: [(&str, &[&'static str], Option<Value>); 13] = [
        ("id", &["identifier"], member("identifier")),
        ("portal", &["portal"], member("portal")),
        ("country", &["country"], member("country").or_else(|| country(&plain))),
        ("url", &["url", "@id"], member("url").or_else(|| address(&plain))),
        ("title", &["title", "name"], member("title").or_else(|| member("name"))),
        ("company", &["hiringOrganization"], member("hiringOrganization")),
        ("location", &["jobLocation"], location(&plain)),
        ("description", &["description"], member("description")),
        ("requirements", &REQUIREMENTS, requirements(&plain)),
        ("salary_raw", &["baseSalary", "estimatedSalary"], salary(&plain)),
        ("contract_type", &["employmentType"], member("employmentType")),
        ("remote_type", &["jobLocationType"], member("jobLocationType")),
        ("posted_date", &["datePosted"], member("datePosted")),
    ];
    for (field, names, value) in sources {
        if let Some(value) = value {
            taken.extend(names);
            fields.insert(field.to_owned(), value);
        }
    }
    // What a field of ours was taken from must not be reported as not used.
    for (name, value) in &plain {
        if !taken.contains(&name.as_str()) && !fields.contains_key(name) {
            fields.insert(name.clone(), value.clone());
        }
    }
    fields
}

/// Strips the vocabulary: `schema:title` and `https://schema.org/title` are `title`.
fn bare(name: &str) -> &str {
    ["schema:", "https://schema.org/", "http://schema.org/"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name)
}

fn address(plain: &Map<String, Value>) -> Option<Value> {
    // An @id may also be a fragment of the page, and the others may be objects.
    for name in ["@id", "mainEntityOfPage", "sameAs"] {
        if let Some(value) = plain.get(name)
            && value.as_str().is_some_and(|text| text.starts_with("http"))
        {
            return Some(value.clone());
        }
    }
    None
}

/// The places of a posting, given as one or a list.
fn places<'v>(plain: &'v Map<String, Value>, name: &str) -> &'v [Value] {
    match plain.get(name) {
        Some(Value::Array(places)) => places,
        Some(place) => std::slice::from_ref(place),
        None => &[],
    }
}

/// The text of a value, if it has one; what cannot be read is left to the other members.
fn text(field: &str, value: &Value) -> Option<String> {
    values::text_of(field, value).ok().flatten()
}

fn country(plain: &Map<String, Value>) -> Option<Value> {
    let mut found: Vec<String> = Vec::new();
    for place in places(plain, "jobLocation") {
        let country = place.get("address").unwrap_or(place).get("addressCountry");
        found.extend(country.and_then(|country| text("country", country)));
    }
    if found.is_empty() {
        let places = places(plain, "applicantLocationRequirements");
        found = places.iter().filter_map(|place| text("country", place)).collect();
    }
    found.dedup();
    // Several countries are kept, since the service, not the reader, decides about them.
    (!found.is_empty()).then(|| Value::String(found.join(", ")))
}

fn location(plain: &Map<String, Value>) -> Option<Value> {
    let places = places(plain, "jobLocation");
    let found: Vec<String> = places.iter().filter_map(|place| text("location", place)).collect();
    (!found.is_empty()).then(|| Value::String(found.join("; ")))
}

fn requirements(plain: &Map<String, Value>) -> Option<Value> {
    let texts = REQUIREMENTS
        .iter()
        .filter_map(|name| values::text_of("requirements", plain.get(*name)?).ok().flatten());
    let texts: Vec<String> = texts.collect();
    (!texts.is_empty()).then(|| Value::String(texts.join("\n")))
}

fn salary(plain: &Map<String, Value>) -> Option<Value> {
    let value = plain.get("baseSalary").or_else(|| plain.get("estimatedSalary"))?;
    let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
    let text = match value {
        Value::Object(object) => {
            let mut object = object.clone();
            if let Some(currency) = plain.get("salaryCurrency").filter(|_| !object.contains_key("currency")) {
                object.insert("currency".to_owned(), currency.clone());
            }
            pay::of_object(&object)?
        }
        value => {
            let currency = pay::part(plain.get("salaryCurrency"));
            pay::Pay { from: pay::part(Some(value)), currency, ..pay::Pay::default() }.text()?
        }
    };
    Some(Value::String(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: &Value) -> Value {
        Value::Object(fields(value.as_object().expect("an object")))
    }

    #[test]
    fn a_posting_has_company_place_date_and_salary() {
        let posting = json!({
            "@context": "https://schema.org/", "@type": "JobPosting", "title": "Contador",
            "description": "<p>NIIF</p>", "datePosted": "2025-11-03", "validThrough": "2025-12-03T00:00",
            "identifier": { "@type": "PropertyValue", "name": "ACME", "value": "77" },
            "hiringOrganization": { "@type": "Organization", "name": "ACME", "sameAs": "https://acme.example" },
            "jobLocation": { "@type": "Place", "address": { "@type": "PostalAddress", "streetAddress": "Cra 1",
                "addressLocality": "Cali", "addressRegion": "Valle", "addressCountry": "CO" } },
            "baseSalary": { "@type": "MonetaryAmount", "currency": "COP",
                "value": { "@type": "QuantitativeValue", "minValue": 2_500_000, "maxValue": 3_000_000, "unitText": "MONTH" } },
            "employmentType": ["FULL_TIME", "TEMPORARY"], "jobLocationType": "TELECOMMUTE",
            "skills": ["Excel", "SAP"], "qualifications": "Título", "url": "https://acme.example/77" });
        let expected = json!({
            "id": { "@type": "PropertyValue", "name": "ACME", "value": "77" }, "country": "CO",
            "url": "https://acme.example/77", "title": "Contador",
            "company": { "@type": "Organization", "name": "ACME", "sameAs": "https://acme.example" },
            "location": "Cali, Valle, CO", "description": "<p>NIIF</p>", "requirements": "Título\nExcel\nSAP",
            "salary_raw": "2500000 - 3000000 COP MONTH", "contract_type": ["FULL_TIME", "TEMPORARY"],
            "remote_type": "TELECOMMUTE", "posted_date": "2025-11-03", "validThrough": "2025-12-03T00:00" });
        assert_eq!(of(&posting), expected);
    }

    #[test]
    fn other_ways_of_writing_are_read() {
        let check = |posting: Value, field: &str, expected: &str| {
            assert_eq!(of(&posting)[field], json!(expected), "{posting}");
        };
        check(json!({ "schema:title": "Chofer" }), "title", "Chofer");
        check(json!({ "name": "Chofer" }), "title", "Chofer");
        check(json!({ "@id": "https://x.example/1" }), "url", "https://x.example/1");
        check(
            json!({ "jobLocation": [{ "address": { "addressLocality": "Cali" } }, { "address": "Bogotá" }] }),
            "location",
            "Cali; Bogotá",
        );
        check(
            json!({ "jobLocation": { "address": { "addressCountry": { "@type": "Country", "name": "Colombia" } } } }),
            "country",
            "Colombia",
        );
        check(
            json!({ "applicantLocationRequirements": { "@type": "Country", "name": "México" } }),
            "country",
            "México",
        );
        check(json!({ "baseSalary": 12_000, "salaryCurrency": "MXN" }), "salary_raw", "12000 MXN");
        check(
            json!({ "baseSalary": { "value": 12_000 }, "salaryCurrency": "MXN" }),
            "salary_raw",
            "12000 MXN",
        );
    }

    #[test]
    fn types_are_recognised() {
        let check = |value: Value, expected: bool| {
            assert_eq!(is_of(value.as_object().expect("an object"), "JobPosting"), expected, "{value}");
        };
        check(json!({ "@type": "JobPosting" }), true);
        check(json!({ "@type": ["Thing", "schema:JobPosting"] }), true);
        check(json!({ "@type": "http://schema.org/JobPosting" }), true);
        check(json!({ "@type": "WebPage" }), false);
        check(json!({}), false);
    }
}
