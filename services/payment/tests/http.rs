//! What a provider, a proxy or a stranger in its place may say over HTTP: a verdict is one in so many words, on this very key, and all
//! else is unknown, within bounds of bytes and time.

mod common;

use std::time::Duration;

use common::*;
use quadrille_payment::{
    Effect, Outcome,
    outside::{Provider, ProviderSettings},
};
use quadrille_runtime::{Answer, Outside};
use quadrille_testkit::outside::{Speaker, Then};
use tokio::task::JoinSet;

const TIMEOUT: Duration = Duration::from_millis(1_000);
/// A test's machine may be busy; an answer without an end would take for ever.
const SLACK: Duration = Duration::from_secs(5);

fn at(url: &str) -> Provider {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let timeout_ms = TIMEOUT.as_millis() as u64;
    Provider::new(&ProviderSettings { url: url.into(), timeout_ms, ..ProviderSettings::default() }).expect("a client")
}

fn captured_under(key: u128) -> String {
    format!(r#"{{"status": "captured", "charge_id": "ch_1", "idempotency_key": "{}"}}"#, id(key))
}

fn captured() -> Answer<Outcome> {
    Answer::Known(Outcome::Captured { charge_id: "ch_1".into() })
}

/// A case's name, the effect, status and body, and what a question for it comes to; `None`: unknown.
type Case = (&'static str, Effect, &'static str, String, Option<Answer<Outcome>>);

#[tokio::test]
async fn only_a_word_on_this_very_key_is_a_verdict() {
    let charge = || charge("tok_approve");
    let key = id(1);
    let own = |rest: &str| format!(r#"{{"idempotency_key": "{key}", {rest}}}"#);
    let declined = own(r#""status": "declined", "reason": "card_declined", "detail": "No.\u0007""#);
    let as_declined = Answer::Known(Outcome::Declined { reason: "card_declined".into(), detail: "No. ".into() });
    let no_trace = own(r#""status": "unknown_key""#);
    let cases: Vec<Case> = vec![
        ("captured", charge(), "200 OK", captured_under(1), Some(captured())),
        (
            "captured, and more than we know",
            charge(),
            "201 Created",
            own(r#""status": "captured", "charge_id": "ch_1", "x": [1]"#),
            Some(captured()),
        ),
        ("declined", charge(), "402 Payment Required", declined.clone(), Some(as_declined.clone())),
        ("declined, in another way", charge(), "422 Unprocessable", declined.clone(), Some(as_declined)),
        ("a yes under a no", charge(), "402 Payment Required", captured_under(1), None),
        ("a yes under another no", charge(), "422 Unprocessable", captured_under(1), None),
        ("of another key", charge(), "200 OK", captured_under(2), None),
        ("of no key", charge(), "200 OK", r#"{"status": "captured", "charge_id": "ch_1"}"#.into(), None),
        ("of another effect", refund("ch_1"), "200 OK", captured_under(1), None),
        ("captured without a name", charge(), "200 OK", own(r#""status": "captured", "charge_id": " ""#), None),
        ("refunded without a name", refund("ch_1"), "200 OK", own(r#""status": "refunded""#), None),
        ("a word that we do not know", charge(), "200 OK", own(r#""status": "pending""#), None),
        ("no trace", charge(), "404 Not Found", no_trace.clone(), Some(Answer::Nothing)),
        (
            "no trace of another key",
            charge(),
            "404 Not Found",
            no_trace.replace(&key.to_string(), &id(2).to_string()),
            None,
        ),
        ("a proxy's 404", charge(), "404 Not Found", "<html>no route</html>".into(), None),
        ("a JSON 404 of somebody else", charge(), "404 Not Found", r#"{"error": "not found"}"#.into(), None),
        ("no trace, and yet found", charge(), "200 OK", no_trace, None),
        ("a verdict, and yet not found", charge(), "404 Not Found", captured_under(1), None),
        ("our password", charge(), "401 Unauthorized", declined.clone(), None),
        ("our rights", charge(), "403 Forbidden", declined.clone(), None),
        ("a proxy's password", charge(), "407 Proxy Authentication Required", declined.clone(), None),
        ("other content", charge(), "409 Conflict", declined.clone(), None),
        ("too much of us", charge(), "429 Too Many Requests", declined.clone(), None),
        ("out of order", charge(), "500 Internal Server Error", captured_under(1), None),
        ("away", charge(), "503 Service Unavailable", declined, None),
        ("not changed", charge(), "304 Not Modified", String::new(), None),
        ("nothing", charge(), "200 OK", String::new(), None),
        ("a page", charge(), "200 OK", "<html>Hello</html>".into(), None),
        ("deeper than anybody needs", charge(), "200 OK", "[".repeat(60_000), None),
        ("not UTF-8 and no JSON", charge(), "200 OK", "\u{fffd}\0".into(), None),
    ];
    for (what, effect, status, body, wanted) in cases {
        let speaker = Speaker::answers(status, &body).await.expect("a server");
        let provider = at(&speaker.url);
        let asked = provider.ask(key, &effect).await;
        let performed = provider.perform(key, &effect).await;
        match wanted {
            None => {
                assert!(matches!(asked, Answer::Unknown(_)), "{what}: {asked:?}");
                assert!(matches!(performed, Answer::Unknown(_)), "{what}: {performed:?}");
            }
            // That nothing is known of what was just wanted says nothing of it.
            Some(Answer::Nothing) => {
                assert_eq!(asked, Answer::Nothing, "{what}");
                assert!(matches!(performed, Answer::Unknown(_)), "{what}: {performed:?}");
            }
            Some(known) => assert_eq!((asked, performed), (known.clone(), known), "{what}"),
        }
    }
}

/// A POST would come there as a GET, and what it says would be taken for the provider's word.
#[tokio::test]
async fn a_redirect_is_followed_nowhere() {
    let elsewhere = Speaker::answers("200 OK", &captured_under(1)).await.expect("a server");
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let body = captured_under(1);
        let answer = format!(
            "HTTP/1.1 {status}\r\nlocation: {}/charges\r\ncontent-length: {}\r\n\r\n{body}",
            elsewhere.url,
            body.len()
        );
        let speaker = Speaker::start(answer, Then::Closes).await.expect("a server");
        let provider = at(&speaker.url);
        for answer in
            [provider.perform(id(1), &charge("tok_approve")).await, provider.ask(id(1), &charge("tok_approve")).await]
        {
            assert!(matches!(answer, Answer::Unknown(_)), "{status}: {answer:?}");
        }
    }
    assert_eq!(elsewhere.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn what_has_no_end_is_given_up_and_what_is_cut_off_is_no_verdict() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let sized = |bytes: usize| format!("{head}content-length: {bytes}\r\n\r\n");
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    let whole = captured_under(1);
    let padded = format!("{}{}", " ".repeat(100_000), whole);
    let in_time = [
        ("a body that is too large", sized(padded.len()) + &padded, Then::Closes),
        ("a body that has no end", sized(1 << 40), Then::Repeats(vec![b' '; 65_536])),
        ("chunks without end", chunked.clone(), Then::Repeats(b"5\r\n     \r\n".repeat(4_096))),
        ("headers without end", head.into(), Then::Repeats(b"x-more: and more\r\n".repeat(4_096))),
        ("a header without end", format!("{head}x-long: "), Then::Repeats(vec![b'x'; 65_536])),
        ("a body cut short", sized(whole.len() + 1) + &whole, Then::Closes),
        ("chunks cut short", format!("{chunked}{:x}\r\n{whole}\r\n", whole.len()), Then::Closes),
        ("compressed", format!("{head}content-encoding: gzip\r\ncontent-length: 4\r\n\r\n\u{1f}zip"), Then::Closes),
        ("not HTTP", "220 mail ESMTP\r\n".into(), Then::Closes),
        ("nothing at all", String::new(), Then::Closes),
    ];
    let by_time = [
        ("silence", String::new(), Then::Silence),
        ("silence after the head", sized(whole.len()), Then::Silence),
        ("silence before the end", sized(whole.len() + 1) + &whole, Then::Silence),
        ("a head that drips", "HTTP/1.1 200 OK\r\nx-drip: ".into(), Then::Drips(b"x".to_vec())),
        ("a body that drips", sized(1_000_000), Then::Drips(b" ".to_vec())),
        ("a hundred continues", String::new(), Then::Drips(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())),
    ];
    let mut cases = JoinSet::new();
    let all = in_time.map(|case| (case, false)).into_iter().chain(by_time.map(|case| (case, true)));
    for ((what, says, then), by_time) in all {
        cases.spawn(async move {
            let speaker = Speaker::start(says, then).await.expect("a server");
            let (provider, began) = (at(&speaker.url), tokio::time::Instant::now());
            let answer = provider.perform(id(1), &charge("tok_approve")).await;
            let Answer::Unknown(why) = &answer else { panic!("{what}: {answer:?}") };
            assert!(began.elapsed() < TIMEOUT + SLACK, "{what}: {:?}", began.elapsed());
            assert_eq!(why.contains("no answer in time"), by_time, "{what}: {why}");
        });
    }
    while let Some(case) = cases.join_next().await {
        case.expect("as it should be");
    }
}

/// A connection that was kept and has gone silent costs one answer, not all that come after it.
#[tokio::test]
async fn a_kept_connection_that_went_silent_is_not_asked_twice() {
    let whole = captured_under(1);
    let says = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{whole}", whole.len());
    // It answers the first request of each connection, keeps the connection, and says nothing more on it.
    let speaker = Speaker::start(says, Then::Silence).await.expect("a server");
    let provider = at(&speaker.url);
    let mut answers = vec![];
    for _ in 0..3 {
        answers.push(provider.ask(id(1), &charge("tok_approve")).await);
    }
    assert_eq!(answers, [captured(), Answer::Unknown("no answer in time".into()), captured()]);
}

/// A test cannot change its own environment: it runs itself again, in one that names a proxy.
#[tokio::test]
async fn the_environments_proxy_is_not_asked() {
    const AGAIN: &str = "QUADRILLE_TEST_PROVIDER";
    if let Ok(url) = std::env::var(AGAIN) {
        assert_eq!(at(&url).ask(id(1), &charge("tok_approve")).await, captured());
        return;
    }
    let provider = Speaker::answers("200 OK", &captured_under(1)).await.expect("a server");
    let proxy = Speaker::answers("502 Bad Gateway", "").await.expect("a server");
    let mut again = tokio::process::Command::new(std::env::current_exe().expect("a test has a path"));
    again.args(["--exact", "the_environments_proxy_is_not_asked"]).env(AGAIN, &provider.url).kill_on_drop(true);
    for variable in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        again.env(variable, &proxy.url);
    }
    let output = again.env_remove("no_proxy").env_remove("NO_PROXY").output().await.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((provider.heard().len(), proxy.heard().len()), (1, 0));
}
