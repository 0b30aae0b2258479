//! Parquet files, as pandas, polars, R and DuckDB write them.
//!
//! Logical types become text: dates, times, decimals. A corrupt file is an error, never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use chrono::{DateTime, Days, NaiveDate};
use parquet::basic::{LogicalType, TimeUnit};
use parquet::data_type::Decimal;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row as Record};
use serde_json::{Map, Number, Value};

use super::problems::Problems;
use super::table::{Row, Table};

/// Reads all rows; the place of a row is its number.
///
/// # Errors
/// If the file is corrupt or has an unsupported column type.
pub(super) fn table(bytes: Vec<u8>) -> Result<Table, String> {
    // The parquet crate panics on some corrupt files.
    let read = catch_unwind(AssertUnwindSafe(|| rows(bytes)));
    let (columns, rows) = read.map_err(|_| "the Parquet file is corrupt".to_owned())??;
    Ok(Table { form: "Parquet".to_owned(), columns, rows, problems: Problems::default(), notes: Vec::new() })
}

type Read = (Vec<String>, Vec<Row>);

fn rows(bytes: Vec<u8>) -> Result<Read, String> {
    let reader = SerializedFileReader::new(Bytes::from(bytes)).map_err(damaged)?;
    let schema = reader.metadata().file_metadata().schema();
    let columns: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    // The reader returns nanoseconds as plain integers, without their logical type.
    let nanos: Vec<bool> = schema
        .get_fields()
        .iter()
        .map(|field| {
            let kind = field.get_basic_info().logical_type_ref();
            matches!(kind, Some(LogicalType::Timestamp(time)) if time.unit == TimeUnit::NANOS)
        })
        .collect();
    let mut rows = Vec::new();
    for (place, record) in (1..).zip(reader.get_row_iter(None).map_err(damaged)?) {
        let record: Record = record.map_err(|error| format!("row {place}: {}", damaged(error)))?;
        let mut cells = Vec::with_capacity(nanos.len());
        for ((_, field), nanos) in record.get_column_iter().zip(&nanos) {
            cells.push(match field {
                // Rounded down also before 1970.
                Field::Long(count) if *nanos => moment(count.div_euclid(1_000)),
                field => value(field),
            });
        }
        rows.push(Row { place, cells });
    }
    Ok((columns, rows))
}

fn damaged(error: impl std::fmt::Display) -> String {
    format!("cannot read the Parquet file, which may be corrupt: {error}")
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(yes) => (*yes).into(),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        Field::Float16(number) => float(number.to_f64()),
        // By way of the shortest text of the single-precision number: its f64 would have more
        // digits.
        Field::Float(number) => float(number.to_string().parse().unwrap_or(f64::from(*number))),
        Field::Double(number) => float(*number),
        Field::Decimal(decimal) => Value::String(decimal_text(decimal)),
        Field::Str(text) => Value::String(text.clone()),
        // Some writers leave out the annotation that marks a column as text.
        Field::Bytes(bytes) => Value::String(String::from_utf8_lossy(bytes.data()).into_owned()),
        Field::Date(days) => date(*days),
        Field::TimestampMillis(count) => moment(count.saturating_mul(1_000)),
        Field::TimestampMicros(count) => moment(*count),
        Field::TimeMillis(count) => (*count).into(),
        Field::TimeMicros(count) => (*count).into(),
        Field::Group(record) => {
            let members = record.get_column_iter().map(|(name, field)| (name.clone(), value(field)));
            Value::Object(members.collect::<Map<String, Value>>())
        }
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => map.entries().iter().map(|(_, field)| value(field)).collect(),
    }
}

fn float(number: f64) -> Value {
    // NaN and infinity, which JSON lacks, count as no value.
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

fn date(days: i32) -> Value {
    let epoch = NaiveDate::default();
    let count = Days::new(u64::from(days.unsigned_abs()));
    let day = if days < 0 { epoch.checked_sub_days(count) } else { epoch.checked_add_days(count) };
    day.map_or(Value::Null, |day| Value::String(day.to_string()))
}

/// Formats microseconds since 1970.
fn moment(micros: i64) -> Value {
    let moment = DateTime::from_timestamp_micros(micros);
    moment.map_or(Value::Null, |moment| Value::String(moment.naive_utc().to_string()))
}

/// Formats a decimal of at most 128 bits.
fn decimal_text(decimal: &Decimal) -> String {
    let bytes = decimal.data();
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    // Big-endian two's complement (Parquet format, DECIMAL); starting at -1 extends the sign.
    let unscaled =
        bytes.iter().fold(if negative { -1 } else { 0_i128 }, |sum, byte| (sum << 8) | i128::from(*byte));
    let scale = usize::try_from(decimal.scale()).unwrap_or_default();
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let fraction = fraction.trim_end_matches('0');
    let sign = if negative { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_become_values() {
        let check =
            |field: Field, expected: &str| assert_eq!(value(&field).to_string(), expected, "{field:?}");
        check(Field::Null, "null");
        check(Field::Double(f64::NAN), "null");
        check(Field::Float(0.1), "0.1");
        check(Field::Date(20_395), "\"2025-11-03\"");
        check(Field::Date(-1), "\"1969-12-31\"");
        check(Field::TimestampMillis(1_762_128_000_000), "\"2025-11-03 00:00:00\"");
        check(Field::TimestampMicros(1_762_164_000_000_000), "\"2025-11-03 10:00:00\"");
        check(Field::Decimal(Decimal::from_i64(250_000_050, 18, 2)), "\"2500000.5\"");
        check(Field::Decimal(Decimal::from_i32(-5, 9, 2)), "\"-0.05\"");
    }

    #[test]
    fn damaged_files_are_refused() {
        let check = |bytes: &[u8]| {
            assert!(table(bytes.to_vec()).expect_err("refused").contains("corrupt"), "{bytes:?}")
        };
        check(b"PAR1");
        check(b"PAR1\0\0\0\0\xff\xff\xff\x7fPAR1");
        check(b"PAR1 cut off");
    }
}
