//! The sites that the simulator serves.
//!
//! A site is a portal in one country; its name, address and clock follow from the two.

use std::{fmt, str::FromStr};

use chrono::FixedOffset;
use serde::{Serialize, Serializer};

/// A portal, that is a family of page shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Portal {
    /// Server-rendered cards and detail pages.
    Computrabajo,
    /// Server-rendered cards with entity-encoded JSON, and a list in JSON-LD.
    Elempleo,
    /// A single-page application over a JSON interface.
    Bumeran,
}

impl Portal {
    /// Every portal.
    pub const ALL: [Self; 3] = [Self::Computrabajo, Self::Elempleo, Self::Bumeran];

    /// Name in addresses and in the `portal` field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Computrabajo => "computrabajo",
            Self::Elempleo => "elempleo",
            Self::Bumeran => "bumeran",
        }
    }
}

/// A country of the generated advertisements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Country {
    /// Colombia.
    Co,
    /// Mexico.
    Mx,
    /// Argentina.
    Ar,
    /// Peru.
    Pe,
    /// Chile.
    Cl,
}

impl Country {
    /// Every country.
    pub const ALL: [Self; 5] = [Self::Co, Self::Mx, Self::Ar, Self::Pe, Self::Cl];

    /// ISO 3166-1 alpha-2, upper case.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Co => "CO",
            Self::Mx => "MX",
            Self::Ar => "AR",
            Self::Pe => "PE",
            Self::Cl => "CL",
        }
    }

    /// Name in Spanish.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Co => "Colombia",
            Self::Mx => "México",
            Self::Ar => "Argentina",
            Self::Pe => "Perú",
            Self::Cl => "Chile",
        }
    }

    /// Offset of the capital's clock from UTC; Chile's of November, for of these countries it alone
    /// has summer time.
    pub fn offset(self) -> FixedOffset {
        let hours = match self {
            Self::Co | Self::Pe => -5,
            Self::Mx => -6,
            Self::Ar | Self::Cl => -3,
        };
        FixedOffset::east_opt(hours * 3_600).expect("an offset within a day")
    }
}

/// A portal's site in one country.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// The portal.
    pub portal: Portal,
    /// The country.
    pub country: Country,
}

impl Site {
    /// The sites that exist; the sources of cross-portal duplicates come before Computrabajo, which
    /// copies them.
    pub const ALL: [Self; 10] = [
        Self { portal: Portal::Elempleo, country: Country::Co },
        Self { portal: Portal::Bumeran, country: Country::Ar },
        Self { portal: Portal::Bumeran, country: Country::Mx },
        Self { portal: Portal::Computrabajo, country: Country::Co },
        Self { portal: Portal::Computrabajo, country: Country::Mx },
        Self { portal: Portal::Computrabajo, country: Country::Ar },
        Self { portal: Portal::Bumeran, country: Country::Pe },
        Self { portal: Portal::Bumeran, country: Country::Cl },
        Self { portal: Portal::Computrabajo, country: Country::Pe },
        Self { portal: Portal::Computrabajo, country: Country::Cl },
    ];

    /// The sites whose advertisements can be composed from templates: the first six.
    pub(crate) fn composed() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|site| !matches!(site.country, Country::Pe | Country::Cl))
    }

    /// First part of every path of the site, such as `/computrabajo/co`: no slash at the end.
    pub fn root(self) -> String {
        format!("/{}/{}", self.portal.name(), self.country.code().to_lowercase())
    }

    /// The site that a path belongs to and the path inside it; the country may stand in either
    /// case.
    pub fn of_path(path: &str) -> Option<(Self, &str)> {
        let (portal, rest) = path.strip_prefix('/')?.split_once('/')?;
        let (country, _) = rest.split_once('/').unwrap_or((rest, ""));
        let inside = &rest[country.len()..];
        let site = Self::ALL
            .into_iter()
            .find(|site| site.portal.name() == portal && site.country.code().eq_ignore_ascii_case(country))?;
        Some((site, if inside.is_empty() { "/" } else { inside }))
    }

    /// Value of `x-site-id` that the Bumeran interface asks for.
    pub(crate) const fn site_id(self) -> &'static str {
        match self.country {
            Country::Co => "BMCO",
            Country::Mx => "BMMX",
            Country::Ar => "BMAR",
            Country::Pe => "BMPE",
            Country::Cl => "BMCL",
        }
    }

    /// The site whose advertisements this one also carries.
    pub(crate) fn twin(self) -> Option<Self> {
        let portal = match (self.portal, self.country) {
            (Portal::Computrabajo, Country::Co) => Portal::Elempleo,
            (Portal::Computrabajo, _) => Portal::Bumeran,
            _ => return None,
        };
        Some(Self { portal, ..self })
    }
}

/// `portal:CC`, the beginning of every key.
impl fmt::Display for Site {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.portal.name(), self.country.code())
    }
}

impl FromStr for Site {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|site| site.to_string().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let allowed = Self::ALL.map(|site| site.to_string()).join(", ");
            format!("unknown site `{text}`; there are {allowed}")
        })
    }
}

impl FromStr for Portal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|portal| portal.name() == text)
            .ok_or_else(|| format!("unknown portal `{text}`; there are computrabajo, elempleo, bumeran"))
    }
}

impl Serialize for Portal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_site() {
        let check = |path: &str, expected: Option<(&str, &str)>| {
            let found = Site::of_path(path).map(|(site, inside)| (site.to_string(), inside));
            assert_eq!(found, expected.map(|(site, inside)| (site.to_owned(), inside)), "{path}");
        };
        check("/computrabajo/co/trabajo-de-x", Some(("computrabajo:CO", "/trabajo-de-x")));
        check("/bumeran/AR", Some(("bumeran:AR", "/")));
        check("/elempleo/co/co/ofertas-empleo/", Some(("elempleo:CO", "/co/ofertas-empleo/")));
        check("/elempleo/mx/x", None);
        check("/computrabajo", None);
        check("/", None);
    }

    #[test]
    fn sites_are_read_from_text() {
        assert_eq!("bumeran:ar".parse::<Site>().unwrap().root(), "/bumeran/ar");
        assert!("bumeran:CO".parse::<Site>().unwrap_err().contains("computrabajo:MX"));
    }
}
