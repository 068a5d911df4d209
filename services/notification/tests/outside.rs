//! The mail server over SMTP, against the real catcher: refusals are final, everything else is tried again as the same mail.

mod common;

use std::time::Duration;

use common::*;
use quadrille_notification::{
    About, Mail, Outcome, message_id,
    outside::{MailSettings, Mailer},
};
use quadrille_runtime::{Answer, Outside, Then};
use quadrille_stand_ins::{Running, mail as catcher};
use serde_json::{Value, json};

const SENT: Answer<Outcome> = Answer::Known(Outcome::Sent { about: About::OrderConfirmed });

struct Post {
    running: Running,
    mailer: Mailer,
}

impl Post {
    async fn open() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let anywhere = ([127, 0, 0, 1], 0).into();
        let running = catcher::start(anywhere, anywhere, None, 100).await.expect("the stand-in");
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
    let settings = MailSettings { url: url.to_owned(), timeout_ms: 500, ..MailSettings::default() };
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

    for address in [
        "ann@example.com\r\nRCPT TO:<evil@example.com>",
        "ann@example.com\nBcc: evil@example.com",
        "ann@example.com, evil@example.com",
        "Ann <ann@example.com>",
        "ann@example.com> SIZE=1\r\nDATA",
        "ann",
        "",
        "\0@example.com",
    ] {
        let answer = post.mailer.perform(id(2), &to(address)).await;
        assert_eq!(failed(&answer), Some("bad_address"), "{address:?}: {answer:?}");
    }
    assert_eq!(post.kept().await["received"], json!(1));
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

#[tokio::test]
async fn settings_that_are_none_are_refused_by_name() {
    for (settings, field) in [
        (MailSettings { url: "nowhere".into(), ..MailSettings::default() }, "url"),
        (MailSettings { from: "nobody".into(), ..MailSettings::default() }, "from"),
    ] {
        let problem = Mailer::new(&settings).map(|_| ()).map_err(|problem| problem.to_string());
        assert!(problem.as_ref().is_err_and(|problem| problem.starts_with(field)), "{problem:?}");
    }
}
