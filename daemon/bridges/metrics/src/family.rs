//! A metric with its samples, in the order in which they are written.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt::Error;

type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
pub struct Family {
    /// The name without the unit, and without the `_total` of a counter.
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    samples: Vec<(Labels, Value)>,
}

#[derive(Debug)]
enum Value {
    Number(f64),
    /// The sum of all values, and for each upper bound the number of values between the bound before and this one.
    Histogram(f64, Vec<(f64, u64)>),
}

impl Family {
    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, unit: None, kind: MetricType::Gauge, samples: Vec::new() }
    }

    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Self { kind: MetricType::Counter, ..Self::gauge(name, help) }
    }

    pub fn histogram(name: &'static str, help: &'static str, sum: f64, buckets: &[(f64, u64)]) -> Self {
        let samples = vec![(Vec::new(), Value::Histogram(sum, buckets.to_owned()))];
        Self { kind: MetricType::Histogram, samples, ..Self::gauge(name, help) }
    }

    pub fn in_seconds(self) -> Self {
        Self { unit: Some(Unit::Seconds), ..self }
    }

    pub fn in_bytes(self) -> Self {
        Self { unit: Some(Unit::Bytes), ..self }
    }

    pub fn up(is_up: bool) -> Self {
        Self::gauge("coft_up", "Whether coftd answers on the bus.").alone(is_up.into())
    }

    /// Adds a sample without labels.
    pub fn alone(self, value: f64) -> Self {
        self.and(Vec::new(), value)
    }

    /// Like `alone`, if there is a value.
    pub fn maybe(self, value: Option<f64>) -> Self {
        match value {
            Some(value) => self.alone(value),
            None => self,
        }
    }

    /// Adds samples that differ in one label.
    pub fn with<'a>(self, label: &'static str, values: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        values.into_iter().fold(self, |family, (name, value)| family.and(vec![(label, name.to_owned())], value))
    }

    /// Adds one sample.
    pub fn and(mut self, labels: Labels, value: f64) -> Self {
        self.push(labels, value);
        self
    }

    pub fn push(&mut self, labels: Labels, value: f64) {
        self.samples.push((labels, Value::Number(value)));
    }

    fn encode(&self, encoder: &mut DescriptorEncoder) -> Result<(), Error> {
        if self.samples.is_empty() {
            return Ok(());
        }
        let mut metric = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), self.kind)?;
        for (labels, value) in &self.samples {
            let mut sample = metric.encode_family(labels)?;
            match value {
                Value::Number(value) => self.encode_number(*value, sample)?,
                Value::Histogram(sum, buckets) => {
                    let count = buckets.iter().map(|(_, count)| count).sum();
                    sample.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
                }
            }
        }
        Ok(())
    }

    /// Whole numbers are written as such.
    fn encode_number(&self, value: f64, encoder: MetricEncoder) -> Result<(), Error> {
        let whole = (value.fract() == 0.0 && value.abs() < 2f64.powi(53)).then_some(value as i64);
        match (matches!(self.kind, MetricType::Counter), whole) {
            (true, Some(whole)) => ConstCounter::new(whole.unsigned_abs()).encode(encoder),
            (true, None) => ConstCounter::new(value).encode(encoder),
            (false, Some(whole)) => ConstGauge::new(whole).encode(encoder),
            (false, None) => ConstGauge::new(value).encode(encoder),
        }
    }
}

#[derive(Debug)]
pub struct Families(pub Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        self.0.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}
