//! Portals and countries that a request asks for: what nobody knows is refused by name, since
//! nothing would match it.

use tonic::Status;

use super::{Services, error, non_empty};
use crate::{
    intake,
    store::{PgConnection, countries, portals},
};

impl Services {
    /// The country that `text` names, by a code or a name; none where it is empty.
    pub(super) async fn country(
        &self,
        connection: &mut PgConnection,
        text: &str,
    ) -> Result<Option<String>, Status> {
        let Some(text) = non_empty(text.trim()) else { return Ok(None) };
        let enabled = countries::enabled(connection).await.map_err(error::sql)?;
        known_country(text, &enabled).map(Some).map_err(|problem| error::invalid("country", problem))
    }

    /// The portal that `text` names; none where it is empty.
    pub(super) async fn portal(
        &self,
        connection: &mut PgConnection,
        text: &str,
    ) -> Result<Option<String>, Status> {
        let Some(text) = non_empty(text.trim()) else { return Ok(None) };
        let mut found = self.known_portals(connection, &[text.to_owned()]).await?;
        Ok(found.pop())
    }

    /// The same of each of a list.
    pub(super) async fn known_portals(
        &self,
        connection: &mut PgConnection,
        asked: &[String],
    ) -> Result<Vec<String>, Status> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let mut known = portals::names(connection).await.map_err(error::sql)?;
        // Configured ones count too: a portal's first run names one of which nothing is stored.
        known.extend(self.portals.iter().cloned());
        known.sort_unstable();
        known.dedup();
        let found: Result<Vec<String>, String> =
            asked.iter().map(|text| known_portal(text, &known)).collect();
        found.map_err(|problem| error::invalid("portal", problem))
    }
}

/// The code of a country as people name it.
pub(super) fn country_code(text: &str) -> String {
    // An unknown name goes on as if it were a code, and is refused as such by the caller's check.
    intake::country_code(text).map_or_else(|| text.trim().to_uppercase(), str::to_owned)
}

fn known_country(text: &str, enabled: &[String]) -> Result<String, String> {
    let code = country_code(text);
    if enabled.contains(&code) {
        return Ok(code);
    }
    Err(format!("`{text}` is not enabled; enabled are {}", enabled.join(", ")))
}

fn known_portal(text: &str, known: &[String]) -> Result<String, String> {
    let name = intake::portal_name(text);
    if known.contains(&name) {
        return Ok(name);
    }
    Err(if known.is_empty() {
        format!("`{text}` is not known; no posting is stored yet and no portal is configured")
    } else {
        format!("`{text}` is not known; known are {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries_are_found_by_code_and_name() {
        let enabled = ["AR", "CO"].map(str::to_owned);
        let check = |text: &str, expected: Result<&str, &str>| {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(known_country(text, &enabled), expected, "{text}");
        };
        check("co", Ok("CO"));
        check("Colombia", Ok("CO"));
        check("MX", Err("`MX` is not enabled; enabled are AR, CO"));
        check("nowhere", Err("`nowhere` is not enabled; enabled are AR, CO"));
    }

    #[test]
    fn portals_are_found_by_their_names() {
        let known = ["bumeran", "bolsa-sena"].map(str::to_owned);
        let check = |text: &str, known: &[String], expected: Result<&str, &str>| {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(known_portal(text, known), expected, "{text}");
        };
        check("Bumeran", &known, Ok("bumeran"));
        check("Bolsa (SENA)", &known, Ok("bolsa-sena"));
        check("nope", &known, Err("`nope` is not known; known are bumeran, bolsa-sena"));
        check("nope", &[], Err("`nope` is not known; no posting is stored yet and no portal is configured"));
    }
}
