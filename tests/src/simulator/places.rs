//! Countries, cities, invented companies and the way each country writes an advertisement.
//!
//! Names of companies are put together from invented words; cities are real, as on the portals.

use super::site::Country;

/// A city and the department, state or province it lies in, as portals print them.
pub(crate) type City = (&'static str, &'static str);

/// Cities of a country, the capital first.
pub(crate) const fn cities(country: Country) -> &'static [City] {
    match country {
        Country::Co => &[
            ("Bogotá, D.C.", "Bogotá, D.C."),
            ("Medellín", "Antioquia"),
            ("Cali", "Valle del Cauca"),
            ("Barranquilla", "Atlántico"),
            ("Bucaramanga", "Santander"),
            ("Pereira", "Risaralda"),
            ("Cúcuta", "Norte de Santander"),
            ("Ibagué", "Tolima"),
        ],
        Country::Mx => &[
            ("Miguel Hidalgo", "Ciudad de México DF"),
            ("Guadalajara", "Jalisco"),
            ("Monterrey", "Nuevo León"),
            ("Querétaro", "Querétaro"),
            ("Puebla", "Puebla"),
            ("Tijuana", "Baja California"),
            ("Mérida", "Yucatán"),
            ("León", "Guanajuato"),
        ],
        Country::Ar => &[
            ("Capital Federal", "Buenos Aires"),
            ("Córdoba", "Córdoba"),
            ("Rosario", "Santa Fe"),
            ("Mendoza", "Mendoza"),
            ("La Plata", "Buenos Aires"),
            ("San Miguel de Tucumán", "Tucumán"),
            ("Neuquén", "Neuquén"),
            ("Mar del Plata", "Buenos Aires"),
        ],
        Country::Pe => &[
            ("Lima", "Lima"),
            ("Arequipa", "Arequipa"),
            ("Trujillo", "La Libertad"),
            ("Chiclayo", "Lambayeque"),
            ("Piura", "Piura"),
            ("Cusco", "Cusco"),
            ("Huancayo", "Junín"),
            ("Callao", "Callao"),
        ],
        Country::Cl => &[
            ("Santiago", "Región Metropolitana"),
            ("Valparaíso", "Valparaíso"),
            ("Concepción", "Biobío"),
            ("Antofagasta", "Antofagasta"),
            ("Temuco", "La Araucanía"),
            ("Rancagua", "O'Higgins"),
            ("Puerto Montt", "Los Lagos"),
            ("La Serena", "Coquimbo"),
        ],
    }
}

/// First words of invented company names.
pub(crate) const COMPANY_WORDS: [&str; 24] = [
    "Altamira",
    "Boreal",
    "Cordillera",
    "Dunamar",
    "Estuario",
    "Faro Verde",
    "Guadual",
    "Horizonte",
    "Itagua",
    "Jacarandá",
    "Kalinda",
    "Lomalta",
    "Mirasol",
    "Nogal",
    "Orilla",
    "Páramo",
    "Quebrada",
    "Ribera",
    "Sabana",
    "Tamarindo",
    "Umbral",
    "Valverde",
    "Yarumal",
    "Zaguán",
];

/// Second words of invented company names.
pub(crate) const COMPANY_TRADES: [&str; 10] = [
    "Servicios",
    "Soluciones",
    "Industrias",
    "Consultores",
    "Logística",
    "Alimentos",
    "Digital",
    "Salud",
    "Grupo",
    "Constructora",
];

/// Legal forms.
pub(crate) const fn legal_forms(country: Country) -> &'static [&'static str] {
    match country {
        Country::Co => &["S.A.S.", "S.A.", "Ltda."],
        Country::Mx => &["S.A. de C.V.", "S. de R.L."],
        Country::Ar => &["S.A.", "S.R.L.", "S.A.S."],
        Country::Pe => &["S.A.C.", "S.A.", "E.I.R.L."],
        Country::Cl => &["SpA", "S.A.", "Ltda."],
    }
}

/// First sentences; `{title}`, `{city}`, `{sector}` and `{years}` are filled in.
pub(crate) const fn openings(country: Country) -> &'static [&'static str] {
    match country {
        Country::Co | Country::Pe => &[
            "Importante empresa del sector {sector} requiere para su equipo de trabajo {title}, con experiencia mínima de {years} en cargos similares.",
            "¿Te gusta el mundo de {sector}? En {city} estamos buscando {title} para hacer parte de nuestra familia.",
            "Empresa con más de veinte años en {sector} solicita {title} para laborar en {city}. Experiencia certificada de {years}.",
            "Nos encontramos en la búsqueda de {title} con ganas de aprender y crecer en {sector}.",
        ],
        Country::Mx | Country::Cl => &[
            "Empresa líder en el ramo de {sector} solicita {title} para su sucursal de {city}.",
            "¡Únete a nuestro equipo! Buscamos {title} con {years} de experiencia comprobable en {sector}.",
            "Por crecimiento de plantilla, compañía de {sector} contrata {title}. Zona de trabajo: {city}.",
            "Estamos contratando {title}; si tienes {years} de experiencia en {sector}, queremos conocerte.",
        ],
        Country::Ar => &[
            "Para nuestro cliente, una empresa de {sector} ubicada en {city}, nos encontramos en la búsqueda de {title}.",
            "Si sos una persona inquieta y tenés {years} de experiencia en {sector}, ¡esta búsqueda de {title} es para vos!",
            "Sumate a una compañía de {sector} en pleno crecimiento. Incorporamos {title} para nuestras oficinas de {city}.",
            "Empresa de primera línea en {sector} seleccionará {title} con {years} de experiencia.",
        ],
    }
}

/// Offers of employers.
pub(crate) const fn offers(country: Country) -> &'static [&'static str] {
    match country {
        Country::Co | Country::Pe => &[
            "Salario a convenir según experiencia + prestaciones de ley",
            "Contrato directo con la compañía y pagos quincenales",
            "Fondo de empleados, póliza & auxilio educativo",
            "Horario de lunes a viernes de 7:30 a.m. a 5:00 p.m.",
            "Estabilidad laboral y plan carrera",
        ],
        Country::Mx | Country::Cl => &[
            "Sueldo competitivo + prestaciones superiores a la ley",
            "Vales de despensa, fondo de ahorro & seguro de gastos médicos",
            "Capacitación pagada desde el primer día",
            "Horario de lunes a viernes de 9:00 a 18:00 hrs",
            "Aguinaldo de 30 días y vacaciones dignas",
        ],
        Country::Ar => &[
            "Incorporación inmediata en relación de dependencia",
            "Prepaga para el grupo familiar & comedor en planta",
            "Día de cumpleaños libre y home office dos veces por semana",
            "Horario: lunes a viernes de 9 a 18 hs",
            "Buen clima laboral y posibilidades de desarrollo",
        ],
    }
}

/// Closing lines that say nothing about the work.
pub(crate) const fn closings(country: Country) -> &'static [&'static str] {
    match country {
        Country::Co | Country::Pe => &[
            "Si cumples con el perfil, ¡postúlate ya!",
            "Interesados aplicar por este medio. Proceso de selección 100% gratuito.",
            "Nuestros procesos son incluyentes: valoramos todas las hojas de vida.",
        ],
        Country::Mx | Country::Cl => &[
            "Interesados postularse por este medio; no se cobra por el trámite.",
            "Empresa incluyente: no se discrimina por edad, género o religión.",
            "Si cubres el perfil, envía tu solicitud y nos ponemos en contacto.",
        ],
        Country::Ar => &[
            "Aguardamos tu postulación con remuneración pretendida.",
            "Valoramos la diversidad y garantizamos igualdad de oportunidades.",
            "¡Si te interesa, postulate y charlemos!",
        ],
    }
}

/// Headings of duties, profile and offer.
pub(crate) const fn headings(country: Country) -> &'static [[&'static str; 3]] {
    match country {
        Country::Co | Country::Pe => &[
            ["Funciones:", "Requisitos:", "Ofrecemos:"],
            ["Responsabilidades:", "Perfil requerido:", "Condiciones:"],
            ["FUNCIONES PRINCIPALES", "REQUISITOS", "BENEFICIOS"],
        ],
        Country::Mx | Country::Cl => &[
            ["Actividades:", "Requisitos:", "Ofrecemos:"],
            ["Responsabilidades del puesto:", "Perfil:", "Prestaciones:"],
            ["¿Qué harás?", "¿Qué necesitas?", "¿Qué ofrecemos?"],
        ],
        Country::Ar => &[
            ["Responsabilidades:", "Requisitos:", "Ofrecemos:"],
            ["Tus principales tareas:", "Qué buscamos:", "Beneficios:"],
            ["Tareas", "Requisitos excluyentes", "Se ofrece"],
        ],
    }
}

/// Contract kinds as Computrabajo prints them.
pub(crate) const fn contracts(country: Country) -> &'static [&'static str] {
    match country {
        Country::Co => &[
            "Contrato a término indefinido",
            "Contrato a término fijo",
            "Contrato de Obra o labor",
            "Contrato civil por prestación de servicios",
        ],
        Country::Mx => &["Contrato por tiempo indeterminado", "Contrato por tiempo determinado"],
        Country::Ar | Country::Pe | Country::Cl => {
            &["Contrato por tiempo indeterminado", "Contrato eventual", "Contrato a plazo fijo"]
        }
    }
}
