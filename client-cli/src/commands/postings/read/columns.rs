//! Maps the columns of a file to our fields.
//!
//! Promises one column for each field, or an error that names the flag to pass.

use std::str::FromStr;

use super::cell::is_empty;
use super::fold::fold;
use super::table::Row;
use crate::commands::text::excerpt;

/// Fields that an advertisement may have.
pub(crate) const FIELDS: [&str; 14] = [
    "id",
    "portal",
    "country",
    "url",
    "title",
    "company",
    "location",
    "description",
    "requirements",
    "salary_raw",
    "contract_type",
    "remote_type",
    "posted_date",
    "scraped_at",
];

/// Fields that every advertisement has.
pub(super) const REQUIRED: [&str; 5] = ["portal", "country", "url", "title", "description"];

/// Columns that together form a salary, as JobSpy and Adzuna write them.
pub(super) const PAY: [&[&str]; 4] = [
    &["minamount", "salarymin", "minsalary", "salariominimo"],
    &["maxamount", "salarymax", "maxsalary", "salariomaximo"],
    &["currency", "salarycurrency", "moneda"],
    &["interval", "payperiod", "salaryperiod"],
];

/// Folded names of our fields in other files: unambiguous translations and names of well-known
/// programs first, then words that are used only if there is nothing better.
const NAMES: [(&str, &str, &str); 14] = [
    (
        "id",
        "externalid idoferta idaviso idvacante idempleo iddelaoferta idpublicacion identificador identifier",
        "jobid codigo codigooferta codigodelaoferta referencia",
    ),
    (
        "portal",
        "site sitio plataforma bolsadeempleo jobboard portaldeempleo",
        "fuente source origen website sitioweb",
    ),
    ("country", "pais countrycode codigopais codigodelpais paiscodigo countryname nombrepais", ""),
    (
        "url",
        "joburl jobpostingurl enlace urloferta urlaviso urldelaoferta urldelaviso enlacealaoferta linkoferta urlvacante",
        "link liga href vinculo hipervinculo permalink redirecturl sourceurl direccionweb",
    ),
    (
        "title",
        "titulo jobtitle titulodelaviso titulodelaoferta titulodelavacante titulodelpuesto titulodelempleo titulodeltrabajo titulovacante titulooferta titulopuesto titulodavaga",
        "puesto cargo vacante oferta nombredelpuesto nombredelcargo nombredelavacante nombrevacante vaga positionname position positiontitle",
    ),
    (
        "company",
        "empresa companyname nombredelaempresa nombreempresa compania",
        "empleador employer razonsocial organizacion contratante hiringorganization",
    ),
    (
        "location",
        "ubicacion lugardetrabajo localizacion joblocation localizacao",
        "lugar ciudad cidade city localidad place municipio",
    ),
    (
        "description",
        "descripcion jobdescription descripciondelpuesto descripciondelcargo descripciondelaoferta descripciondelavacante descripciondelaviso descripciondelempleo descripcionoferta descripcionpuesto descripcionvacante descricao",
        "detalle detalles textoaviso cuerpo contenido texto textodelaviso textodelaoferta body funciones",
    ),
    (
        "requirements",
        "requisitos requerimientos requisitosdelpuesto jobrequirements",
        "perfil exigencias qualifications skills",
    ),
    (
        "salary_raw",
        "salario sueldo salary salariooofrecido salarioofrecido rangosalarial salariomensual salarytext",
        "remuneracion compensation pay basesalary",
    ),
    (
        "contract_type",
        "tipodecontrato tipocontrato contrato jobtype employmenttype modalidaddecontratacion contratotipo",
        "tipodeempleo tipoempleo jornada jornadalaboral tipodejornada",
    ),
    (
        "remote_type",
        "isremote modalidaddetrabajo teletrabajo trabajoremoto workplacetype joblocationtype",
        "modalidad remoto remote",
    ),
    (
        "posted_date",
        "fechadepublicacion fechapublicacion dateposted publicationdate datepublished publisheddate fechadelaoferta fechaoferta fechaaviso fechadeaviso datadepublicacao",
        "fecha date publicado published publishedat postedat posted created createdat",
    ),
    (
        "scraped_at",
        "fechadecaptura fechadeextraccion fechadescarga fechadedescarga fechaderecoleccion fechaderecogida fecharecoleccion scrapeddate datescraped collectiondate datecollected datadecoleta datadacoleta",
        "collected collectedat collectedon crawled crawledat crawldate scraped capturado recolectado descargado fechacaptura fechaextraccion fechascraping fechaconsulta fechadeconsulta retrievedat downloadedat fetchedat datacoleta",
    ),
];

/// Pairs of our field and a column of the file, from `--map`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Columns(pub(super) Vec<(&'static str, String)>);

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pairs: Vec<(&'static str, String)> = Vec::new();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (ours, theirs) = pair
                .split_once('=')
                .ok_or_else(|| format!("invalid mapping `{pair}`: expected FIELD=COLUMN"))?;
            let known = FIELDS.iter().find(|field| **field == ours.trim());
            let ours = known.ok_or_else(|| {
                format!("unknown field `{}`: expected one of {}", ours.trim(), FIELDS.join(", "))
            })?;
            if pairs.iter().any(|(field, _)| field == ours) {
                return Err(format!("field `{ours}` is mapped to two columns; expected one"));
            }
            pairs.push((ours, theirs.trim().to_owned()));
        }
        Ok(Self(pairs))
    }
}

/// Quality of the match between the name of a column and a field; smaller is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Same,
    Folded,
    Name,
    Word,
}

fn rank(field: &str, column: &str) -> Option<Rank> {
    // The exact name first, so that our own exports are read without a guess.
    if column == field {
        return Some(Rank::Same);
    }
    let folded = fold(column);
    if folded.is_empty() {
        return None;
    }
    if folded == fold(field) {
        return Some(Rank::Folded);
    }
    let (_, names, words) = NAMES.iter().find(|(name, _, _)| *name == field)?;
    if names.split(' ').any(|name| name == folded) {
        Some(Rank::Name)
    } else if words.split(' ').any(|word| word == folded) {
        Some(Rank::Word)
    } else {
        None
    }
}

/// Counts the cells that could be names of columns.
pub(super) fn known(cells: &[String]) -> usize {
    cells.iter().filter(|cell| FIELDS.iter().any(|field| rank(field, cell.trim()).is_some())).count()
}

/// Mapping of our fields to the columns of a file.
#[derive(Debug, Default)]
pub(super) struct Mapping {
    /// Fields and their columns; of several columns at most one has a value in each row.
    pub(super) fields: Vec<(&'static str, Vec<usize>)>,
    /// Columns of the salary, in the order of [`PAY`].
    pub(super) pay: Option<[Option<usize>; 4]>,
    /// Names of the columns that are not used.
    pub(super) unused: Vec<String>,
    /// True if a column was mapped by its name alone, without `--map`.
    pub(super) inferred: bool,
}

impl Mapping {
    /// Finds the columns of all fields; `given` are fields with a value from a flag.
    pub(super) fn find(
        columns: &[String],
        rows: &[Row],
        asked: &Columns,
        given: &[&str],
    ) -> Result<Self, String> {
        let mut mapping = Self::default();
        for (field, theirs) in &asked.0 {
            let places = places_of(columns, theirs);
            match places.as_slice() {
                [] => return Err(no_column(columns, theirs)),
                [place] => mapping.fields.push((field, vec![*place])),
                _ => return Err(twice(theirs, &places)),
            }
        }
        // In a fixed order, because a column taken by one field is no longer free for the next.
        for field in FIELDS {
            if mapping.fields.iter().all(|(mapped, _)| *mapped != field) {
                mapping.infer(field, columns, rows)?;
            }
        }
        // Not in the order of the flags: what is shown should not depend on that.
        mapping.fields.sort_by_key(|(field, _)| FIELDS.iter().position(|known| known == field));
        mapping.find_pay(columns);
        let missing: Vec<&str> =
            REQUIRED.into_iter().filter(|field| !mapping.has(field) && !given.contains(field)).collect();
        if !missing.is_empty() {
            return Err(mapping.missing(&missing, columns));
        }
        mapping.unused = columns
            .iter()
            .enumerate()
            .filter(|(place, _)| !mapping.uses(*place))
            .map(|(_, name)| excerpt(name))
            .collect();
        mapping.unused.dedup();
        Ok(mapping)
    }

    fn has(&self, field: &str) -> bool {
        self.fields.iter().any(|(mapped, _)| *mapped == field)
    }

    fn uses(&self, place: usize) -> bool {
        let pays = self.pay.iter().flatten().flatten().any(|used| *used == place);
        pays || self.fields.iter().any(|(_, places)| places.contains(&place))
    }

    fn infer(&mut self, field: &'static str, columns: &[String], rows: &[Row]) -> Result<(), String> {
        // In our own export `job_id` identifies a stored row, not an advertisement of a portal.
        let exported = field == "id" && columns.iter().any(|column| column == "content_hash");
        let ranked: Vec<(Rank, usize)> = columns
            .iter()
            .enumerate()
            .filter(|(place, name)| !(self.uses(*place) || exported && *name == "job_id"))
            .filter_map(|(place, name)| rank(field, name).map(|rank| (rank, place)))
            .collect();
        let Some(best) = ranked.iter().map(|(rank, _)| *rank).min() else { return Ok(()) };
        let places: Vec<usize> =
            ranked.iter().filter(|(rank, _)| *rank == best).map(|(_, place)| *place).collect();
        // Several columns for a field are fine as long as each row uses only one of them.
        if places.len() > 1 && rows.iter().any(|row| has_several(row, &places)) {
            let names: Vec<String> =
                places.iter().map(|place| format!("`{}`", excerpt(&columns[*place]))).collect();
            // `--map` goes by name and could not choose between these.
            if columns[places[0]] == columns[places[1]] {
                return Err(twice(&columns[places[0]], &places));
            }
            let first = excerpt(&columns[places[0]]);
            return Err(format!(
                "ambiguous columns for {field}: {}; choose one, as in --map {field}={first}",
                names.join(" and ")
            ));
        }
        self.inferred |= best != Rank::Same;
        self.fields.push((field, places));
        Ok(())
    }

    fn find_pay(&mut self, columns: &[String]) {
        let found = PAY
            .map(|names: &[&str]| columns.iter().position(|column| names.contains(&fold(column).as_str())));
        // A salary in one text is what the employer wrote; parts of it are somebody's reading.
        if !self.has("salary_raw") && (found[0].is_some() || found[1].is_some()) {
            self.pay = Some(found);
            self.inferred = true;
        }
    }

    fn missing(&self, missing: &[&str], columns: &[String]) -> String {
        let free = columns.iter().enumerate().filter(|(place, _)| !self.uses(*place));
        let free: Vec<&String> = free.map(|(_, name)| name).collect();
        let near: Vec<String> = missing
            .iter()
            .filter_map(|field| Some((field, nearest(field, &free)?)))
            .map(|(field, column)| format!("{field}={}", excerpt(column)))
            .collect();
        let mut flags = vec![format!("--map {}=COLUMN", missing[0])];
        if !near.is_empty() {
            flags = vec![format!("--map {}", near.join(","))];
        }
        let defaults = ["portal", "country"].into_iter().filter(|field| missing.contains(field));
        flags.extend(defaults.map(|field| format!("--{field}")));
        format!(
            "no column for {}; found {}; pass {}",
            missing.join(", "),
            listed(columns),
            flags.join(" or ")
        )
    }

    /// Pairs of fields and columns for display, such as `title` and `Título`.
    pub(super) fn shown(&self, columns: &[String]) -> Vec<(String, String)> {
        let mut shown: Vec<(String, String)> = self
            .fields
            .iter()
            .map(|(field, places)| {
                let names: Vec<String> = places.iter().map(|place| excerpt(&columns[*place])).collect();
                ((*field).to_owned(), names.join(" or "))
            })
            .collect();
        if let Some(pay) = self.pay {
            let names: Vec<String> = pay.iter().flatten().map(|place| excerpt(&columns[*place])).collect();
            shown.push(("salary_raw".to_owned(), names.join(" + ")));
        }
        shown
    }
}

fn places_of(columns: &[String], name: &str) -> Vec<usize> {
    columns.iter().enumerate().filter(|(_, column)| *column == name).map(|(place, _)| place).collect()
}

fn no_column(columns: &[String], name: &str) -> String {
    let near = columns.iter().find(|column| fold(column) == fold(name));
    let near = near.map(|column| format!(" (did you mean `{}`?)", excerpt(column))).unwrap_or_default();
    format!("no column `{name}`{near}; found {}", listed(columns))
}

fn twice(name: &str, places: &[usize]) -> String {
    let places: Vec<String> = places.iter().map(|place| (place + 1).to_string()).collect();
    format!(
        "column `{}` appears {} times (columns {}); expected once",
        excerpt(name),
        places.len(),
        places.join(", ")
    )
}

/// True if more than one of the columns has a value in the row.
fn has_several(row: &Row, places: &[usize]) -> bool {
    places.iter().filter(|place| !is_empty(row.cells.get(**place))).count() > 1
}

fn listed(columns: &[String]) -> String {
    if columns.is_empty() {
        return "no columns".to_owned();
    }
    columns.iter().map(|column| excerpt(column)).collect::<Vec<_>>().join(", ")
}

/// Finds an unused column whose name is a typo of one of the names of the field.
fn nearest<'c>(field: &str, free: &[&'c String]) -> Option<&'c String> {
    let (_, names, words) = NAMES.iter().find(|(name, _, _)| *name == field)?;
    let own = fold(field);
    let known: Vec<&str> = names.split(' ').chain(words.split(' ')).chain([own.as_str()]).collect();
    free.iter().copied().find(|column| is_typo(&fold(column), &known))
}

/// True if a name is a typo of one of the others, of which those with three letters or fewer are
/// too short to tell.
fn is_typo(name: &str, known: &[&str]) -> bool {
    known.iter().filter(|known| known.len() > 3).any(|known| {
        // One typo in a short name, two in a long one: more would match unrelated words.
        strsim::osa_distance(known, name) <= if known.len() > 7 { 2 } else { 1 }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn mapped(header: &str, map: &str) -> Result<String, String> {
        let columns: Vec<String> = header.split(';').map(str::to_owned).collect();
        let cells = vec![Value::String("x".to_owned()); columns.len()];
        let rows = [Row { place: 2, cells }];
        let mapping = Mapping::find(&columns, &rows, &map.parse().expect("a map"), &["portal", "country"])?;
        let shown: Vec<String> =
            mapping.shown(&columns).into_iter().map(|(ours, theirs)| format!("{ours}={theirs}")).collect();
        Ok(format!("{} / {}", shown.join(","), mapping.unused.join(",")))
    }

    #[test]
    fn columns_are_recognised() {
        let check = |header: &str, map: &str, expected: &str| {
            assert_eq!(mapped(header, map).as_deref(), Ok(expected), "{header}");
        };
        check("title;url;description;extra", "", "url=url,title=title,description=description / extra");
        check("Título;Descripción;Enlace", "", "url=Enlace,title=Título,description=Descripción / ");
        check("TITULO;DESCRIPCION;URL", "", "url=URL,title=TITULO,description=DESCRIPCION / ");
        check(
            "Ti\u{301}tulo;Descripcio\u{301}n;Link",
            "",
            "url=Link,title=Ti\u{301}tulo,description=Descripcio\u{301}n / ",
        );
        check("Puesto;Título;descripcion;url", "", "url=url,title=Título,description=descripcion / Puesto");
        check("Cargo;Aviso;url", "description=Aviso", "url=url,title=Cargo,description=Aviso / ");
        check("title;Titulo;description;url", "", "url=url,title=title,description=description / Titulo");
        check(
            "title;Titulo;description;url",
            "title=Titulo",
            "url=url,title=Titulo,description=description / title",
        );
        check(
            "id;site;job_url;job_url_direct;title;company;location;date_posted;job_type;interval;min_amount;max_amount;currency;is_remote;description",
            "",
            "id=id,portal=site,url=job_url,title=title,company=company,location=location,description=description,\
             contract_type=job_type,remote_type=is_remote,posted_date=date_posted,\
             salary_raw=min_amount + max_amount + currency + interval / job_url_direct",
        );
        check(
            "job_id;portal;country;url;title;description;content_hash",
            "",
            "portal=portal,country=country,url=url,title=title,description=description / job_id,content_hash",
        );
    }

    #[test]
    fn a_missing_or_doubtful_column_is_one_message() {
        let check = |header: &str, map: &str, expected: &str| {
            assert_eq!(mapped(header, map).expect_err("refused"), expected, "{header}");
        };
        check(
            "titulo;url;description",
            "title=Titulo",
            "no column `Titulo` (did you mean `titulo`?); found titulo, url, description",
        );
        check("a;b", "", "no column for url, title, description; found a, b; pass --map url=COLUMN");
        check(
            "titel;url;descripton",
            "",
            "no column for title, description; found titel, url, descripton; pass --map title=titel,description=descripton",
        );
        check(
            "Puesto;Cargo;url;description",
            "",
            "ambiguous columns for title: `Puesto` and `Cargo`; choose one, as in --map title=Puesto",
        );
        check(
            "title;title;url;description",
            "",
            "column `title` appears 2 times (columns 1, 2); expected once",
        );
        check("t;t;url;description", "title=t", "column `t` appears 2 times (columns 1, 2); expected once");
    }

    #[test]
    fn maps_name_known_fields() {
        let check = |text: &str, expected: &str| {
            let error = text.parse::<Columns>().expect_err("refused");
            assert!(error.contains(expected), "{error}");
        };
        check("title", "invalid mapping `title`: expected FIELD=COLUMN");
        check("titel=x", "unknown field `titel`: expected one of id, portal");
        check("title=a,title=b", "field `title` is mapped to two columns");
    }
}
