//! Logs, and traces that go through outbox, timers and effects as they go through topics.

use std::{borrow::Cow, io::IsTerminal, str::FromStr};

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
    config::{Log, LogFormat},
    work::input_name,
};

/// The length of a `traceparent` of version 00.
pub(crate) const TRACE_PARENT: usize = 55;
/// So many characters of a `tracestate` every hop should carry on; more may be dropped.
pub(crate) const TRACE_STATE: usize = 512;

/// Starts logging, once a process.
pub fn init_logs(log: &Log) -> anyhow::Result<()> {
    let filter =
        Targets::from_str(&log.filter).map_err(|error| anyhow::anyhow!("log.filter '{}': {error}", log.filter))?;
    let registry = tracing_subscriber::registry().with(filter);
    // Colours are for a terminal, and for who has not asked to be spared them (https://no-color.org).
    let has_colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    match log.format {
        LogFormat::Human => registry.with(fmt::layer().with_target(false).with_ansi(has_colours)).try_init()?,
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

/// One input's span, from its place in a batch to the batch's commit.
pub(crate) struct InputSpan(opentelemetry_sdk::trace::Span);

impl Spans {
    pub fn new(service: &'static str, endpoint: &str) -> anyhow::Result<Self> {
        if endpoint.is_empty() {
            return Ok(Self { provider: None, service });
        }
        let traces = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_endpoint(traces).build()?;
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
/// belongs to the same trace. A `tracestate` that is broken or too long is dropped, as [W3C allows each hop](https://www.w3.org/TR/trace-context/).
pub(crate) fn extract(input: Uuid, parent: &str, state: &str) -> Trace {
    match trace_parent(parent) {
        Some(parent) => {
            Trace { parent, state: Some(state).filter(|state| is_trace_state(state)).unwrap_or_default().into() }
        }
        None => {
            let (_, low) = input.as_u64_pair();
            Trace { parent: format!("00-{:032x}-{:016x}-01", input.as_u128(), low), state: String::new() }
        }
    }
}

/// A sound `traceparent`, in the version that is known here: of a later one what this version has, as W3C asks for, and only the flag
/// that it knows.
fn trace_parent(text: &str) -> Option<String> {
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let says_something = |part: &str| is_hex(part) && part.bytes().any(|byte| byte != b'0');
    let (known, more) = text.split_at_checked(TRACE_PARENT)?;
    let mut parts = known.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let sizes = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2) && parts.next().is_none();
    if !sizes || !is_hex(version) || version == "ff" || !says_something(trace) || !says_something(span) {
        return None;
    }
    let flag_bits = u8::from_str_radix(flags, 16).ok().filter(|_| is_hex(flags))?;
    match version {
        "00" => more.is_empty().then(|| text.to_owned()),
        _ => (more.is_empty() || more.starts_with('-')).then(|| format!("00-{trace}-{span}-{:02x}", flag_bits & 1)),
    }
}

/// Whether a `tracestate` is of W3C's grammar, and no longer than every hop has to carry on.
fn is_trace_state(text: &str) -> bool {
    let is_key = |key: &str| {
        let start = key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let rest = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
        start && key.len() <= 256 && key.bytes().all(rest) && key.matches('@').count() <= 1
    };
    let is_value = |value: &str| {
        let printable = |byte| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
        !value.is_empty() && value.len() <= 256 && value.bytes().all(printable)
    };
    let is_member = |member: &str| match member.trim_matches([' ', '\t']) {
        "" => true,
        member => member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value)),
    };
    text.len() <= TRACE_STATE && text.split(',').count() <= 32 && text.split(',').all(is_member)
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

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const FRESH: &str = "00-67e5504410b1426f9247bb680e5fe0c8-9247bb680e5fe0c8-01";

    #[test]
    fn a_valid_parent_is_carried_on_as_it_came() {
        let trace = extract(INPUT, PARENT, "a=b");
        assert_eq!((trace.parent.as_str(), trace.state.as_str()), (PARENT, "a=b"));
    }

    #[test]
    fn what_is_no_parent_starts_a_trace_that_a_repeat_shares() {
        let long = format!("{PARENT}{}", "0".repeat(40_000));
        let broken = [
            "",
            "00-1-1-1",
            "00-xyz",
            "00-00000000000000000000000000000000-0000000000000000-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-+0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-+1",
            "00-4bf92f3577b34da6a3ce929d0e0e47366-00f067aa0ba902b7-01",
            "000-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-é1",
            &long,
        ];
        for parent in broken {
            let trace = extract(INPUT, parent, "a=b");
            assert_eq!((trace.parent.as_str(), trace.state.as_str()), (FRESH, ""), "{parent:?}");
            assert_eq!(extract(INPUT, &trace.parent, "").parent, trace.parent);
        }
    }

    #[test]
    fn of_a_later_version_what_this_one_has_is_carried_on() {
        for later in ["", "-", "-more", &format!("-{}", "x".repeat(40_000))] {
            let later = format!("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff{later}");
            assert_eq!(extract(INPUT, &later, "").parent, PARENT);
        }
    }

    #[test]
    fn a_state_is_carried_on_where_it_is_one_and_short() {
        let most = format!("k={},l={}", "x".repeat(254), "x".repeat(253));
        assert_eq!(most.len(), 512);
        for state in ["a=b", "a=b,c=d", "a=b , \tc=d", "a=b,,c=d", "0a@b=c d", "a*/_-=~", &most] {
            assert_eq!(extract(INPUT, PARENT, state).state, state);
        }
        let (long, many) = (format!("{most}x"), vec!["a=b"; 33].join(","));
        for state in
            ["a=b\0c", "a=\0b", "a", "=b", "a=", "A=b", "a=b=c", "a=é", "@a=b", "a@b@c=d", "a=b\n", &long, &many]
        {
            assert_eq!(extract(INPUT, PARENT, state).state, "", "{state:?}");
        }
    }
}
