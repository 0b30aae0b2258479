//! Words of titles by what they do there, folded. Read off titles of Argentine, Colombian, Mexican,
//! Peruvian and Chilean advertisements; the places are capitals and the cities that advertise most.

/// Returns whether a word is in one of the lists.
pub(super) fn listed(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|known| known == word)
}

/// Articles, prepositions and conjunctions.
pub(super) const FUNCTION: &str = "\
    a al an and as at como con de del desde e el en for in la las lo los nuestra nuestro o of or os para \
    por que se sin su the to u un una with x y";

/// Prepositions after which stands where and for whom one works, not as what.
pub(super) const QUALIFYING: &str = "con sin para por with";

/// Conjunctions between two occupations.
pub(super) const JOINING: &str = "y e o u and or";

/// Second endings after a slash, a bracket or an at sign.
pub(super) const GENDER_MARKS: &str =
    "a as o os e es s x xs ra ras da das do dos ta tas ca na nas or ora oras ores iz triz";

/// With these an employer addresses readers; the occupation follows.
pub(super) const HIRING: &str = "\
    busca buscamos buscando busqueda solicita solicitamos solicito solicitando requiere requerimos \
    requiero necesita necesitamos necesito contrata contratamos contratando incorpora incorporamos \
    selecciona seleccionamos vacante vacantes oferta ofertas convocatoria convoca convocamos oportunidad \
    oportunidades recluta reclutamos postulate sumate unete hiring wanted";

/// Stems of first words that say how somebody is called; what the work is follows directly.
pub(super) const LEADS: &str = "oficial maestr licenciad personal profesional joven senor doctor";

/// First words of what says where, when and on what terms one works.
pub(super) const QUALIFIERS: &str = "\
    zona turno turnos horario horarios jornada disponibilidad experiencia exp sede sucursal sector rubro \
    modalidad residencia contrato importante empresa urgente bilingue ingles english remoto remote \
    presencial hibrido part full fulltime parttime temporada temporal eventual eventuales freelance ref \
    req medio tiempo fines";

/// Words that say nothing about the occupation: standing, how readers are addressed, hours, places.
pub(super) const NOISE: &str = "\
    senior sr sra srta ssr semi semisenior junior jr trainee mid nivel inicial avanzado avanzada i ii \
    iii iv experimentado experimentada experimentados experimentadas calificado calificada calificados \
    certificado certificada titulado titulada titulados matriculado matriculada matriculados egresado \
    egresada recien recibido recibida graduado graduada profesional profesionales bilingue diplomado \
    entry level ingles english spanish portugues urgente urgentes urgent importante empresa cliente \
    experiencia exp excluyente comprobable laboral laborales empleo trabajo puesto puestos cargo perfil \
    copia ref req inmediato inmediata ingreso incorporacion ambos sexos sexo masculino masculinos \
    femenino femenina femeninas hombre hombres mujer mujeres plazo fijo permanente eventual eventuales \
    temporal temporario temporaria temporada indefinido contrato freelance varios varias hoy ya aqui occ \
    sueldo comisiones atractivo atractiva buen buena reemplazo suplencia discapacidad pcd inclusivo \
    inclusiva tu te nos somos multinacional reconocida remoto remota remote hibrido hibrida hybrid \
    presencial onsite part time fulltime parttime medio media turno turnos tiempo completo parcial \
    jornada completa manana tarde noche nocturno nocturna diurno diurna rotativo rotativos rotativa \
    franquero horas hs hrs dias dia lunes viernes sabado sabados domingo domingos fin fines semana mes \
    mensual casa zona norte sur oeste este capital federal gba amba caba cdmx edomex bogota medellin \
    cali barranquilla cartagena bucaramanga pereira manizales cucuta ibague soacha colombia mexico \
    guadalajara monterrey queretaro puebla tijuana toluca merida leon cancun argentina rosario cordoba \
    mendoza tucuman salta neuquen pilar quilmes moron avellaneda lima arequipa trujillo piura chiclayo \
    cusco callao peru santiago valparaiso concepcion antofagasta temuco chile";

/// Short forms in titles, written out.
pub(super) const ABBREVIATIONS: [(&str, &str); 53] = [
    ("aux", "auxiliar"),
    ("adm", "administrativo"),
    ("admin", "administrativo"),
    ("admtivo", "administrativo"),
    ("admva", "administrativa"),
    ("admvo", "administrativo"),
    ("asist", "asistente"),
    ("asst", "assistant"),
    ("ayte", "ayudante"),
    ("tec", "tecnico"),
    ("tco", "tecnico"),
    ("tca", "tecnica"),
    ("ing", "ingeniero"),
    ("lic", "licenciado"),
    ("arq", "arquitecto"),
    ("cdor", "contador"),
    ("dr", "doctor"),
    ("dra", "doctora"),
    ("prof", "profesor"),
    ("enf", "enfermero"),
    ("coord", "coordinador"),
    ("sup", "supervisor"),
    ("superv", "supervisor"),
    ("gte", "gerente"),
    ("dir", "director"),
    ("enc", "encargado"),
    ("resp", "responsable"),
    ("repr", "representante"),
    ("rep", "representante"),
    ("ejec", "ejecutivo"),
    ("oper", "operario"),
    ("op", "operario"),
    ("prog", "programador"),
    ("dev", "developer"),
    ("eng", "engineer"),
    ("mgr", "manager"),
    ("rrhh", "recursos humanos"),
    ("rh", "recursos humanos"),
    ("hr", "recursos humanos"),
    ("rr", "recursos"),
    ("hh", "humanos"),
    ("mkt", "marketing"),
    ("mktg", "marketing"),
    ("vta", "ventas"),
    ("vtas", "ventas"),
    ("cta", "cuentas"),
    ("ctas", "cuentas"),
    ("gral", "general"),
    ("grales", "generales"),
    ("mant", "mantenimiento"),
    ("mtto", "mantenimiento"),
    ("seg", "seguridad"),
    ("electr", "electricista"),
];
