//! Keeps what is measured while `larder serve` runs, for `larder status --metrics`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

static KEPT: LazyLock<Kept> = LazyLock::new(Kept::default);

/// Begins to keep what this process measures.
pub(crate) fn keep() {
    // Fails only if it was begun before.
    let _ = metrics::set_global_recorder(KEPT.clone());
}

/// All that was measured, in Prometheus' text format.
pub(crate) fn text() -> String {
    KEPT.all().iter().map(|(name, cell)| cell.lines(name)).collect::<Vec<_>>().concat()
}

/// By name and labels.
type Cells = BTreeMap<(String, String), Arc<Cell>>;

#[derive(Debug, Clone, Default)]
struct Kept {
    all: Arc<Mutex<Cells>>,
}

impl Kept {
    fn all(&self) -> MutexGuard<'_, Cells> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cell(&self, key: &Key, is_histogram: bool) -> Arc<Cell> {
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={:?}", label.key(), label.value())).collect();
        let name = (key.name().to_owned(), labels.join(","));
        let new = || Arc::new(Cell { is_histogram, ..Cell::default() });
        Arc::clone(self.all().entry(name).or_insert_with(new))
    }
}

/// One metric with its labels: a value, or a count and a sum.
#[derive(Debug, Default)]
struct Cell {
    is_histogram: bool,
    values: Mutex<(f64, u64)>,
}

impl Cell {
    fn change(&self, change: impl FnOnce(&mut f64, &mut u64)) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, count) = &mut *values;
        change(value, count);
    }

    fn lines(&self, (name, labels): &(String, String)) -> String {
        let (value, count) = *self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        if self.is_histogram {
            format!("{name}_sum{labels} {value}\n{name}_count{labels} {count}\n")
        } else if count > 0 {
            format!("{name}{labels} {count}\n")
        } else {
            format!("{name}{labels} {value}\n")
        }
    }
}

impl CounterFn for Cell {
    fn increment(&self, value: u64) {
        self.change(|_, count| *count += value);
    }

    fn absolute(&self, value: u64) {
        self.change(|_, count| *count = value.max(*count));
    }
}

impl GaugeFn for Cell {
    fn increment(&self, value: f64) {
        self.change(|sum, _| *sum += value);
    }

    fn decrement(&self, value: f64) {
        self.change(|sum, _| *sum -= value);
    }

    fn set(&self, value: f64) {
        self.change(|sum, _| *sum = value);
    }
}

impl HistogramFn for Cell {
    fn record(&self, value: f64) {
        self.change(|sum, count| {
            *sum += value;
            *count += 1;
        });
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key, false))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key, false))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.cell(key, true))
    }
}
