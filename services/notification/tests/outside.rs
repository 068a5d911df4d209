//! The mail server over SMTP, against the real catcher: a refusal of the mail is final, everything else is tried again as the same mail.

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::*;
use quadrille_core::bounds::fitted;
use quadrille_notification::{
    About, Mail, Outcome, message_id,
    outside::{MailSettings, Mailer},
};
use quadrille_runtime::{Answer, Config, Outside, Then, config};
use quadrille_stand_ins::{
    Running,
    mail::{self as catcher, Fault, Faults, Misanswer, Phase},
};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

const SENT: Answer<Outcome> = Answer::Known(Outcome::Sent { about: About::OrderConfirmed });

struct Post {
    running: Running,
    mailer: Mailer,
}

impl Post {
    async fn open() -> Self {
        Self::open_with(Faults::default()).await
    }

    async fn open_with(faults: Faults) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let anywhere = ([127, 0, 0, 1], 0).into();
        let running = catcher::start_with(anywhere, anywhere, None, 100, faults).await.expect("the stand-in");
        let smtp = running.smtp.expect("an SMTP side");
        let mailer = at(&format!("smtp://{smtp}"));
        Self { running, mailer }
    }

    async fn kept(&self) -> Value {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let response = client.get(format!("{}/api/mails", self.running.url())).send().await.expect("an answer");
        response.json().await.expect("JSON")
    }
}

fn at(url: &str) -> Mailer {
    with_timeout(url, 500)
}

fn with_timeout(url: &str, timeout_ms: u64) -> Mailer {
    let settings = MailSettings { url: url.to_owned(), timeout_ms, ..MailSettings::default() };
    Mailer::new(&settings).expect("a mail server")
}

fn to(address: &str) -> Mail {
    mail(ORDER, About::OrderConfirmed, address)
}

fn failed(answer: &Answer<Outcome>) -> Option<&str> {
    match answer {
        Answer::Known(Outcome::Failed { reason, .. }) => Some(reason),
        _ => None,
    }
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_written() {
    let post = Post::open().await;
    let mut mail = to("ann@example.com");
    mail.name = "Änn Exämple, \"the\" <one>".into();
    mail.text = "Grüße,\n.\n..\nFrom me\n".into();
    assert_eq!(post.mailer.perform(id(1), &mail).await, SENT);
    let kept = post.kept().await;
    let mail = &kept["mails"][0];
    assert_eq!(mail["to"], json!(["ann@example.com"]));
    assert_eq!(mail["from"], json!("shop@quadrille.example"));
    assert_eq!(mail["message_id"], json!(message_id(id(1))));
    assert_eq!(mail["subject"], json!("Your order is confirmed"));
    assert_eq!(
        mail["text"].as_str().map(|text| text.replace("\r\n", "\n")).as_deref(),
        Some("Grüße,\n.\n..\nFrom me\n")
    );
}

#[tokio::test]
async fn nobody_gets_a_header_or_a_recipient_of_theirs_in() {
    let post = Post::open().await;
    let mut mail = to("ann@example.com");
    mail.name = "Ann\r\nBcc: evil@example.com\r\n\r\n<h1>".into();
    mail.subject = "Hello\r\nX-Evil: 1".into();
    assert_eq!(post.mailer.perform(id(1), &mail).await, SENT);
    let kept = post.kept().await;
    assert_eq!(kept["mails"][0]["to"], json!(["ann@example.com"]));
    let raw = kept["mails"][0]["raw"].as_str().expect("a mail");
    let head = raw.split("\r\n\r\n").next().expect("a head");
    for line in head.split("\r\n") {
        assert!(!line.starts_with("Bcc") && !line.starts_with("X-Evil"), "{head}");
    }

    let (long_user, long_label) =
        (format!("{}@example.com", "a".repeat(65)), format!("ann@{}.example", "b".repeat(64)));
    let long = format!("{}@{}.example", "a".repeat(64), ["b".repeat(63), "c".repeat(63), "d".repeat(55)].join("."));
    for address in [
        "ann@example.com\r\nRCPT TO:<evil@example.com>",
        "ann@example.com\nBcc: evil@example.com",
        "ann@example.com, evil@example.com",
        "Ann <ann@example.com>",
        "ann@example.com> SIZE=1\r\nDATA",
        "ann",
        "",
        "\0@example.com",
        "ann\u{85}@example.com",
        "\"ann\u{9b}\"@example.com",
        "\"ann\r\n\"@example.com",
        "ann\u{2028}@example.com",
        "ann smith@example.com",
        "\"ann@example.com",
        "ann@exa mple.com",
        "ann@exam_ple.com",
        "ann@-example.com",
        "ann@exämple..example",
        "ann@ex\u{202e}ample.com",
        "ann@",
        "@example.com",
        &long_user,
        &long_label,
        &long,
    ] {
        let answer = post.mailer.perform(id(2), &to(address)).await;
        assert_eq!(failed(&answer), Some("bad_address"), "{address:?}: {answer:?}");
    }
    assert_eq!(post.kept().await["received"], json!(1));
}

/// However odd, they are addresses; a domain goes by its A-labels, which every server takes.
#[tokio::test]
async fn addresses_go_as_they_were_given_and_domains_as_every_server_takes_them() {
    let longest = format!("{}@{}.example", "a".repeat(64), ["b".repeat(63), "c".repeat(63), "d".repeat(53)].join("."));
    let post = Post::open_with(Faults { without_smtputf8: true, ..Faults::default() }).await;
    for (number, (given, goes_to)) in [
        ("ann+shop@Example.COM", "ann+shop@Example.COM"),
        (" ann@example.com ", "ann@example.com"),
        ("\"ann smith\"@example.com", "\"ann smith\"@example.com"),
        ("\"a@b>c\\\"d\"@example.com", "\"a@b>c\\\"d\"@example.com"),
        ("ann@[127.0.0.1]", "ann@[127.0.0.1]"),
        ("joerg@exämple.example", "joerg@xn--exmple-cua.example"),
        ("joerg@BÜCHER.example", "joerg@xn--bcher-kva.example"),
        (longest.as_str(), longest.as_str()),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = post.mailer.perform(id(number as u128), &to(given)).await;
        assert_eq!(answer, SENT, "{given}");
        assert_eq!(post.kept().await["mails"][0]["to"], json!([goes_to]), "{given}");
    }
}

#[tokio::test]
async fn an_address_that_this_server_can_never_take_is_given_up_at_once() {
    let post = Post::open_with(Faults { without_smtputf8: true, ..Faults::default() }).await;
    let answer = post.mailer.perform(id(1), &to("jörg@example.com")).await;
    assert_eq!(failed(&answer), Some("unsupported_address"), "{answer:?}");
    assert_eq!(post.kept().await["received"], json!(0));

    let post = Post::open().await;
    assert_eq!(post.mailer.perform(id(1), &to("jörg@exämple.example")).await, SENT);
    let kept = post.kept().await;
    assert_eq!(kept["mails"][0]["to"], json!(["jörg@xn--exmple-cua.example"]));
    // Sent well, it is a mail like any other: only its head holds the address as it is (RFC 6532).
    sound(&kept["mails"][0], &to("jörg@xn--exmple-cua.example"));
}

/// RFC 5322 and 2045, read by a parser that is not the one that wrote it.
fn sound(kept: &Value, mail: &Mail) {
    let raw = kept["raw"].as_str().expect("a mail");
    let (head, body) = raw.split_once("\r\n\r\n").expect("a head and a body");
    for line in raw.split("\r\n") {
        assert!(line.len() <= 998 && !line.contains(['\r', '\n', '\0']), "{line:?}");
    }
    assert!(raw.ends_with("\r\n") && body.is_ascii(), "{raw}");
    assert!(head.is_ascii() || !mail.to.is_ascii(), "{head}");
    let mut fields: Vec<(&str, &str)> = vec![];
    for line in head.split("\r\n").filter(|line| !line.starts_with([' ', '\t'])) {
        fields.push(line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}")));
    }
    let mut names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let each_once =
        ["Content-Transfer-Encoding", "Content-Type", "Date", "From", "MIME-Version", "Message-ID", "Subject", "To"];
    assert_eq!(names, each_once, "{head}");
    assert!(fields.contains(&("MIME-Version", "1.0")), "{head}");
    assert!(fields.contains(&("Content-Type", "text/plain; charset=utf-8")), "{head}");

    let parsed = mail_parser::MessageParser::default().parse(raw.as_bytes()).expect("a mail");
    let one = |address: Option<&mail_parser::Address<'_>>| {
        let all: Vec<_> = address.expect("an address").iter().cloned().collect();
        let [one] = &all[..] else { panic!("{all:?}") };
        let text = |of: Option<&str>| of.unwrap_or_default().to_owned();
        (text(one.name()), text(one.address()))
    };
    assert_eq!(one(parsed.from()), ("Quadrille".into(), "shop@quadrille.example".into()));
    // Blanks between words may come as fewer.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (name, address) = one(parsed.to());
    assert_eq!((words(&name), &address), (words(&fitted(&mail.name)), &mail.to), "{head}");
    assert_eq!(words(parsed.subject().unwrap_or_default()), words(&fitted(&mail.subject)), "{head}");
    let lines = |text: &str| text.replace("\r\n", "\n").trim_end().to_owned();
    assert_eq!(lines(&parsed.body_text(0).expect("a text")), lines(&mail.text));
    #[expect(clippy::disallowed_methods, reason = "how old a mail is that was just sent")]
    let age = chrono::Utc::now().timestamp() - parsed.date().expect("a date").to_timestamp();
    assert!((0..60).contains(&age), "{head}");
    assert_eq!(kept["message_id"], json!(format!("<{}>", parsed.message_id().expect("an id"))));
}

#[tokio::test]
async fn every_mail_is_one_by_the_book() {
    let post = Post::open().await;
    let names = [
        "",
        "Ann",
        "Ann of the Harbour Street, Who Has a Name That Is Longer Than a Line of a Head Should Be, and Then Some",
        "Example, Ann (the one)",
        "Ann \"the\" \\ <one@example.org>",
        "Ann; Bob: Carl@example.org",
        "Änn Exämple",
        "\u{202e}מרים\u{202c} كريم 山田",
        "Ann\t\u{1b}[31m\r\nBcc: evil@example.com",
        &"ä".repeat(500),
        &"a".repeat(500),
        &"🦆 ".repeat(250),
    ];
    let texts = [
        "",
        "Hello\n",
        "Grüße,\n.\n..\nFrom me\n\n\tund =20 so",
        &"x".repeat(5_000),
        &"ü".repeat(5_000),
        &"\n".repeat(300),
    ];
    let mut number = 0;
    for (name, text) in names.iter().map(|name| (*name, texts[2])).chain(texts.iter().map(|text| (names[6], *text))) {
        number += 1;
        let mut mail = to("ann@example.com");
        (mail.name, mail.text) = (name.into(), text.into());
        mail.subject = if number % 2 == 0 { "Your order is confirmed".into() } else { format!("Für {name}") };
        assert_eq!(post.mailer.perform(id(number), &mail).await, SENT, "{name}");
        sound(&post.kept().await["mails"][0], &mail);
    }
}

/// What an answer in a phase comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    Sent,
    Refused,
    Unknown,
}

/// The answers that a server may give in any phase, and what they come to. A mail that the server has taken is sent whatever it says
/// to QUIT, and an answer that comes before RCPT is about us, however final it sounds.
fn comes(phase: Phase, answer: &Misanswer) -> Comes {
    use {Comes::*, Phase::*};
    let code = match answer {
        // lettre reads no answer without a text, which RFC 5321 allows: such a one is as good as none.
        Misanswer::Line(line) => {
            line.split_once(' ').filter(|(code, _)| code.len() == 3).and_then(|(code, _)| code.parse().ok())
        }
        _ => None,
    };
    match (phase, code.unwrap_or(0)) {
        (Quit, _) => Sent,
        (Rcpt | Data | End, 500..=559) => Refused,
        // DATA alone is answered by "go on".
        (Data, 300..=359) => Sent,
        (Data, _) => Unknown,
        (_, 200..=259) => Sent,
        // lettre takes it for a yes; what comes of it is told by the phases after them.
        (Greeting | Ehlo, 300..=359) => Sent,
        _ => Unknown,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_in_each_phase_comes_to_what_it_says_of_the_mail_and_no_more() {
    let answers = || {
        let lines = [
            "252 odd",
            "354 go on",
            "334 YQ==",
            "421 4.3.2 later",
            "451 4.3.0 not now",
            "500",
            "535 5.7.8 no",
            "554 5.7.1 no",
        ];
        let garbage = [
            "hello there",
            "",
            "2",
            "299 x",
            "25",
            "2xx",
            "999 x",
            "-250 x",
            "55\u{661} x",
            "HTTP/1.1 400 Bad Request",
        ];
        let odd =
            [Misanswer::EndlessLine, Misanswer::EndlessLines, Misanswer::Silence, Misanswer::Cut, Misanswer::Drip];
        lines.into_iter().chain(garbage).map(|line| Misanswer::Line(line.to_owned())).chain(odd)
    };
    // A busy machine is no silent server.
    const PATIENT_MS: u64 = 3_000;
    let (mut cases, at_once) = (JoinSet::new(), Arc::new(Semaphore::new(16)));
    for (name, phase) in Phase::ALL.into_iter().filter(|(_, phase)| *phase != Phase::Auth) {
        for answer in answers() {
            let at_once = Arc::clone(&at_once);
            cases.spawn(async move {
                let _one = at_once.acquire().await;
                let wanted = comes(phase, &answer);
                let fault = Fault { phase, answer: answer.clone() };
                let post = Post::open_with(Faults { fault: Some(fault), ..Faults::default() }).await;
                let mailer = with_timeout(&format!("smtp://{}", post.running.smtp.expect("an SMTP side")), PATIENT_MS);
                let began = Instant::now();
                let said = mailer.perform(id(1), &to("ann@example.com")).await;
                let came = match (&said, failed(&said)) {
                    (said, _) if *said == SENT => Comes::Sent,
                    (_, Some("refused")) => Comes::Refused,
                    (Answer::Unknown(_), _) => Comes::Unknown,
                    _ => panic!("{name} {answer:?}: {said:?}"),
                };
                assert_eq!(came, wanted, "{name} {answer:?}: {said:?}");
                // One time-out, a second for goodbye, and a busy machine.
                assert!(began.elapsed() < Duration::from_secs(10), "{name} {answer:?}: {:?}", began.elapsed());
                if let (Answer::Unknown(why), Misanswer::EndlessLine | Misanswer::EndlessLines) = (&said, &answer) {
                    assert!(why.contains("more than") || why.contains("too l"), "{name} {answer:?}: {why}");
                }
                // Whatever became of the answer to its end: it is the same mail when it is sent again.
                mailer.perform(id(1), &to("ann@example.com")).await;
                let kept = post.kept().await;
                let taken = matches!(phase, Phase::End | Phase::Quit) || wanted == Comes::Sent;
                assert_eq!(kept["message_ids"], json!(i32::from(taken)), "{name} {answer:?}");
            });
        }
    }
    while let Some(case) = cases.join_next().await {
        case.expect("as it should be");
    }
}

/// What a server says goes into facts and logs, where nobody looks for an address.
#[tokio::test]
async fn a_recipient_is_not_repeated() {
    for code in [550, 451] {
        // In whatever case it has it.
        let line = format!("{code} 5.1.1 <Ann@EXAMPLE.com>: nobody of that name");
        let fault = Fault { phase: Phase::Rcpt, answer: Misanswer::Line(line) };
        let post = Post::open_with(Faults { fault: Some(fault), ..Faults::default() }).await;
        let said = format!("{:?}", post.mailer.perform(id(1), &to("ann@example.com")).await);
        assert!(
            said.contains("<the recipient>: nobody of that name") && !said.to_lowercase().contains("ann@"),
            "{said}"
        );
    }
}

/// A password that has expired is about us: nothing of it is a word on a mail.
#[tokio::test]
async fn a_refused_password_passes() {
    for answer in ["535 5.7.8 expired", "530 5.7.0 no", "454 4.7.0 later", "334 YQ==", "silly"] {
        let fault = Fault { phase: Phase::Auth, answer: Misanswer::Line(answer.into()) };
        let post = Post::open_with(Faults { fault: Some(fault), ..Faults::default() }).await;
        let mailer = at(&format!("smtp://me:s3cret%40x@{}", post.running.smtp.expect("an SMTP side")));
        let said = mailer.perform(id(1), &to("ann@example.com")).await;
        assert!(matches!(&said, Answer::Unknown(why) if !why.contains("s3cret")), "{answer}: {said:?}");
        assert_eq!(post.kept().await["received"], json!(0));
    }
    // Nor is that it wants none.
    let post = Post::open().await;
    let mailer = at(&format!("smtp://me:s3cret@{}", post.running.smtp.expect("an SMTP side")));
    let said = mailer.perform(id(1), &to("ann@example.com")).await;
    assert!(matches!(&said, Answer::Unknown(_)), "{said:?}");
}

/// Where encryption was asked for, nothing goes without it.
#[tokio::test]
async fn a_server_without_the_encryption_that_was_asked_for_gets_no_mail() {
    let post = Post::open().await;
    let smtp = post.running.smtp.expect("an SMTP side");
    for url in [format!("smtps://localhost:{}", smtp.port()), format!("smtp://{smtp}?tls=required")] {
        let said = at(&url).perform(id(1), &to("ann@example.com")).await;
        assert!(matches!(&said, Answer::Unknown(_)), "{url}: {said:?}");
    }
    assert_eq!(post.kept().await["received"], json!(0));
    let said = at(&format!("smtp://{smtp}?tls=opportunistic")).perform(id(1), &to("ann@example.com")).await;
    assert_eq!(said, SENT);
}

#[tokio::test]
async fn a_refusal_is_final() {
    let post = Post::open().await;
    for address in ["reject550@example.com", "reject554-data@example.com"] {
        let answer = post.mailer.perform(id(1), &to(address)).await;
        assert_eq!(failed(&answer), Some("refused"), "{address}: {answer:?}");
    }
    assert_eq!(post.kept().await["received"], json!(0));
}

#[tokio::test]
async fn a_mail_put_off_or_cut_is_tried_again_as_the_same_mail() {
    let post = Post::open().await;
    for (number, address, copies) in [
        (1, "defer451-once@example.com", 1),
        (2, "cut-before-data-once@example.com", 1),
        (3, "cut-after-data-once@example.com", 2),
    ] {
        let mail = to(address);
        let first = post.mailer.perform(id(number), &mail).await;
        assert!(matches!(first, Answer::Unknown(_)), "{address}: {first:?}");
        // What the runtime does before every further try.
        assert_eq!(post.mailer.ask(id(number), &mail).await, Answer::Nothing);
        assert_eq!(post.mailer.perform(id(number), &mail).await, SENT, "{address}");
        let kept = post.kept().await;
        assert_eq!(kept["mails"][0]["message_id"], json!(message_id(id(number))));
        assert_eq!(kept["mails"][0]["copies"], json!(copies), "{address}");
    }
    let kept = post.kept().await;
    assert_eq!((&kept["message_ids"], &kept["repeats"]), (&json!(3), &json!(1)));
}

#[tokio::test]
async fn other_mails_are_not_delayed_by_a_slow_one() {
    let post = Post::open().await;
    let (slow, quick) = (to("slow-5000@example.com"), to("ann@example.com"));
    let began = tokio::time::Instant::now();
    let (slow, quick) = tokio::join!(post.mailer.perform(id(1), &slow), async {
        let answer = post.mailer.perform(id(2), &quick).await;
        (answer, began.elapsed())
    });
    assert_eq!(slow, Answer::Unknown("no answer in time".into()));
    assert_eq!(quick.0, SENT);
    assert!(quick.1 < Duration::from_millis(400), "{:?}", quick.1);
}

#[tokio::test]
async fn a_server_that_is_away_is_no_refusal_and_comes_back() {
    let post = Post::open().await;
    let smtp = post.running.smtp.expect("an SMTP side");
    assert_eq!(post.mailer.perform(id(1), &to("ann@example.com")).await, SENT);
    post.running.stop().await.expect("an end");
    let away = post.mailer.perform(id(2), &to("ann@example.com")).await;
    assert!(matches!(away, Answer::Unknown(_)), "{away:?}");
    let _again = catcher::start(([127, 0, 0, 1], 0).into(), smtp, None, 100).await.expect("the stand-in again");
    assert_eq!(post.mailer.perform(id(2), &to("ann@example.com")).await, SENT);
}

#[tokio::test]
async fn a_mail_is_given_up_after_a_day_and_that_is_its_end() {
    let mailer = at("smtp://127.0.0.1:1");
    let limit = mailer.limit(&to("ann@example.com"));
    assert_eq!(limit.after.as_secs(), 24 * 3600);
    let Then::Conclude(Outcome::Failed { about, reason, .. }) = limit.then else {
        panic!("{:?}", limit.then);
    };
    assert_eq!((about, reason.as_str()), (About::OrderConfirmed, "undelivered"));
}

/// The rule of the key and the mailer are one: what `config` shows as in force is what `run` sends with.
#[test]
fn settings_that_are_none_are_refused_by_key_and_source_and_all_others_are_taken() {
    let load = |key: &str, value: &str| {
        let variable = format!("QUADRILLE__OUTSIDE__{}", key.to_ascii_uppercase());
        let environment = BTreeMap::from([(variable, value.to_owned())]);
        config::load::<MailSettings>(&Config::of("notification"), &environment)
    };
    let sound = [
        ("url", "smtp://h"),
        ("url", "SMTP://h:2525/"),
        ("url", "smtp://[::1]:25"),
        ("url", "smtps://me:s3cret@h"),
        ("url", "smtp://me:s3cret%40x@h:587?tls=required"),
        ("url", "smtp://h?tls=opportunistic"),
        ("from", "shop@example.com"),
        ("from", "Shöp <shop@exämple.example>"),
    ];
    for (key, value) in sound {
        let loaded = load(key, value).expect(value);
        Mailer::new(&loaded.settings.outside).expect(value);
    }
    for (key, value) in [
        ("url", ""),
        ("url", "s3cret"),
        ("url", "h:25"),
        ("url", "http://me:s3cret@h"),
        ("url", "smtp://"),
        ("url", "smtp:s3cret"),
        ("url", "smtp:///s3cret"),
        ("url", "smtp://me:s3cret@"),
        ("url", "smtp://me:s3cret@h:0"),
        ("url", "smtp://me:s3cret@h:99999"),
        ("url", "smtp://me:s3cret"),
        ("url", "smtp://s3cret@h"),
        ("url", "smtp://:s3cret@h"),
        ("url", "smtp://me:s3cret%ff@h"),
        ("url", "smtp://me%ff:s3cret@h"),
        ("url", "smtp://me:s3cret@h/s3cret"),
        ("url", "smtp://me:a/s3cret@h"),
        ("url", "smtp://me:s3cret@h#s3cret"),
        ("url", "smtp://me:s3cret@h?tls=s3cret"),
        ("url", "smtp://me:s3cret@h?s3cret=required"),
        ("url", "smtp://h?tls=required&tls=required"),
        ("url", "smtp://h?"),
        ("url", "smtps://me:s3cret@h?tls=required"),
        ("url", "smtps://me:s3cret@h-"),
        ("from", ""),
        ("from", "nobody"),
        ("from", "Shop <shop@example.com"),
        ("from", "Shop <shop@exam_ple.com>"),
        ("from", "Jörg <jörg@example.com>"),
    ] {
        let refused = load(key, value).map(drop).expect_err(value).to_string();
        let begins = [format!("outside.{key}, from QUADRILLE__"), format!("outside.{key} is '")];
        assert!(begins.iter().any(|begin| refused.starts_with(begin)), "{value}: {refused}");
        assert!(
            refused.contains("from QUADRILLE__OUTSIDE__") && refused.contains("it has to be"),
            "{value}: {refused}"
        );
        let mut settings = MailSettings::default();
        *if key == "url" { &mut settings.url } else { &mut settings.from } = value.to_owned();
        let problem = Mailer::new(&settings).map(drop).expect_err(value).to_string();
        assert!(problem.starts_with(&format!("outside.{key}: ")), "{value}: {problem}");
        assert!(!(refused + &problem).contains("s3cret"), "{value}: {problem}");
    }
}
