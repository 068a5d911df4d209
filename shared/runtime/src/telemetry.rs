//! Logs, and traces that go through outbox, timers and effects as they go through topics.

use std::{borrow::Cow, str::FromStr};

use opentelemetry::{
    Context, KeyValue, global,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{Span, SpanKind, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use quadrille_core::{Envelope, Policy, Trace};
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};
use uuid::Uuid;

use crate::{
    arrival::input_name,
    config::{Log, LogFormat},
};

/// Starts logging, once a process.
pub fn init_logs(log: &Log) -> anyhow::Result<()> {
    let filter =
        Targets::from_str(&log.filter).map_err(|error| anyhow::anyhow!("log.filter '{}': {error}", log.filter))?;
    let registry = tracing_subscriber::registry().with(filter);
    match log.format {
        LogFormat::Human => registry.with(fmt::layer().with_target(false)).try_init()?,
        LogFormat::Json => registry.with(fmt::layer().json().flatten_event(true)).try_init()?,
    }
    Ok(())
}

/// A service's spans. Without an endpoint there are none, and trace context is carried on as it came.
#[derive(Clone)]
pub(crate) struct Spans {
    provider: Option<SdkTracerProvider>,
    service: &'static str,
}

/// One input's span, from its arrival in a batch to the batch's commit.
pub(crate) struct InputSpan(opentelemetry_sdk::trace::Span);

impl Spans {
    pub fn new(service: &'static str, endpoint: &str) -> anyhow::Result<Self> {
        if endpoint.is_empty() {
            return Ok(Self { provider: None, service });
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        let resource = Resource::builder().with_service_name(format!("quadrille-{service}")).build();
        let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
        global::set_tracer_provider(provider.clone());
        Ok(Self { provider: Some(provider), service })
    }

    /// Starts the span of an input, and makes its trace the one that its facts, effects and timers carry on.
    pub fn start<P: Policy>(&self, input: &mut Cow<'_, Envelope<P>>) -> Option<InputSpan> {
        let provider = self.provider.as_ref()?;
        let (name, key) = (input_name::<P>(&input.input), input.key.clone());
        let trace = &mut input.to_mut().trace;
        let propagator = TraceContextPropagator::new();
        let parent = propagator.extract(&Carrier(trace));
        let tracer = provider.tracer("quadrille");
        let span = tracer
            .span_builder(format!("{} {name}", self.service))
            .with_kind(SpanKind::Consumer)
            .with_attributes([
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.kafka.message.key", key),
            ])
            .start_with_context(&tracer, &parent);
        let context = Context::new().with_remote_span_context(span.span_context().clone());
        propagator.inject_context(&context, &mut Carrier(trace));
        Some(InputSpan(span))
    }

    /// Sends what is still waiting.
    pub fn shutdown(&self) {
        if let Some(provider) = &self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "The last spans were not sent");
        }
    }
}

impl InputSpan {
    /// Ends the span.
    pub fn end(mut self) {
        self.0.end();
    }
}

/// The trace of a record's headers. A broken `traceparent`, or none, starts a new trace, whose id is that of the input: so a repeat
/// belongs to the same trace.
pub(crate) fn extract(input: Uuid, parent: Option<&str>, state: Option<&str>) -> Trace {
    let given = Trace { parent: parent.unwrap_or_default().into(), state: state.unwrap_or_default().into() };
    let context = TraceContextPropagator::new().extract(&Carrier(&mut given.clone()));
    if context.span().span_context().is_valid() {
        return given;
    }
    let (_, low) = input.as_u64_pair();
    Trace { parent: format!("00-{:032x}-{:016x}-01", input.as_u128(), low), state: String::new() }
}

/// A [`Trace`] as OpenTelemetry's propagators want to see it.
struct Carrier<'a>(&'a mut Trace);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(&self.0.parent),
            "tracestate" => Some(&self.0.state),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

impl Injector for Carrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        match key {
            "traceparent" => self.0.parent = value,
            "tracestate" => self.0.state = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: Uuid = Uuid::from_u128(0x67e55044_10b1_426f_9247_bb680e5fe0c8);

    #[test]
    fn a_valid_parent_is_carried_on_as_it_came() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = extract(INPUT, Some(parent), Some("a=b"));
        assert_eq!((trace.parent.as_str(), trace.state.as_str()), (parent, "a=b"));
    }

    #[test]
    fn none_zeros_and_a_broken_one_start_a_trace_that_a_repeat_shares() {
        let zeros = "00-00000000000000000000000000000000-0000000000000000-01";
        for parent in [None, Some(zeros), Some("00-xyz"), Some("")] {
            let trace = extract(INPUT, parent, Some("a=b"));
            assert_eq!(trace.parent, "00-67e5504410b1426f9247bb680e5fe0c8-9247bb680e5fe0c8-01");
            assert_eq!(trace.state, "");
            assert_eq!(extract(INPUT, Some(&trace.parent), None).parent, trace.parent);
        }
    }
}
