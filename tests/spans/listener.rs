//! Takes down the router's spans.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// One span.
#[derive(Debug, Clone)]
pub struct Traced {
    pub name: &'static str,
    pub parent: Option<&'static str>,
    pub fields: BTreeMap<String, String>,
    /// Apart from the other fields, since it is never twice the same.
    pub wait: Option<Duration>,
    pub closed: bool,
}

impl Traced {
    pub fn of(
        name: &'static str,
        parent: Option<&'static str>,
        fields: &[(&str, &str)],
        closed: bool,
    ) -> Self {
        let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { name, parent, fields, wait: None, closed }
    }
}

impl PartialEq for Traced {
    fn eq(&self, other: &Self) -> bool {
        let all = |traced: &Self| (traced.name, traced.parent, traced.fields.clone(), traced.closed);
        all(self) == all(other)
    }
}

#[derive(Default, Clone)]
pub struct Listener(Arc<Mutex<Vec<(Id, Traced)>>>);

impl Listener {
    /// The spans since this was asked last, in the order of their beginnings.
    pub fn take(&self) -> Vec<Traced> {
        let mut spans = self.spans();
        std::mem::take(&mut *spans).into_iter().map(|(_, traced)| traced).collect()
    }

    fn spans(&self) -> MutexGuard<'_, Vec<(Id, Traced)>> {
        self.0.lock().unwrap()
    }

    fn change(&self, id: &Id, change: impl FnOnce(&mut Traced)) {
        if let Some((_, traced)) = self.spans().iter_mut().rev().find(|(its, _)| its == id) {
            change(traced);
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Listener {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !attributes.metadata().target().starts_with("diesel_replicas") {
            return;
        }
        let span = context.span(id).unwrap();
        let parent = span.parent().map(|parent| parent.name());
        let mut traced = Traced::of(span.name(), parent, &[], false);
        attributes.record(&mut traced);
        self.spans().push((id.clone(), traced));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.change(id, |traced| values.record(traced));
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.change(&id, |traced| traced.closed = true);
    }
}

impl Visit for Traced {
    fn record_u64(&mut self, field: &Field, value: u64) {
        assert_eq!(field.name(), "wait_us");
        self.wait = Some(Duration::from_micros(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        panic!("{field}: {value:?}");
    }
}
