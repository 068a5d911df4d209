//! The mail catcher: SMTP spoken by hand, since what matters is what a library would not send.

mod common;

use common::{ANYWHERE, Asker, scratch};
use quadrille_stand_ins::{
    Running,
    mail::{self, Fault, Misanswer, Phase},
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

async fn start() -> (Running, Asker) {
    let running = mail::start(ANYWHERE, ANYWHERE, None, 100).await.expect("a mail catcher");
    let asker = Asker::new(running.url());
    (running, asker)
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn greet(running: &Running) -> Self {
        let stream = TcpStream::connect(running.smtp.expect("an SMTP side")).await.expect("a connection");
        let mut client = Self(BufReader::new(stream));
        assert_eq!(client.code().await, 220);
        assert_eq!(client.say("EHLO test\r\n").await, 250);
        client
    }

    /// The next reply's code; 0: the connection is cut.
    async fn code(&mut self) -> u16 {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await.unwrap_or(0) == 0 {
                return 0;
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return line[..3].parse().expect("a code");
            }
        }
    }

    async fn send(&mut self, text: &[u8]) {
        self.0.get_mut().write_all(text).await.expect("a connection");
    }

    async fn say(&mut self, text: &str) -> u16 {
        self.send(text.as_bytes()).await;
        self.code().await
    }

    async fn mail(&mut self, to: &str, text: &str) -> Vec<u16> {
        let mut codes = vec![self.say("MAIL FROM:<shop@example.com>\r\n").await];
        codes.push(self.say(&format!("RCPT TO:<{to}>\r\n")).await);
        if codes.last() == Some(&250) {
            codes.push(self.say("DATA\r\n").await);
        }
        if codes.last() == Some(&354) {
            codes.push(self.say(&format!("{text}.\r\n")).await);
        }
        codes
    }
}

fn text(message_id: &str) -> String {
    format!("Message-ID: <{message_id}>\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\n\r\nHello\r\n")
}

#[tokio::test]
async fn a_mail_is_kept_decoded_and_shown() {
    let (running, page) = start().await;
    let mut client = Client::greet(&running).await;
    assert_eq!(client.mail("ann@example.com", &text("m1@x")).await, [250, 250, 354, 250]);
    let (_, told) = page.get("/api/mails").await;
    let mail = &told["mails"][0];
    assert_eq!((&mail["subject"], &mail["text"]), (&json!("Grüße"), &json!("Hello\r\n")));
    assert_eq!((&mail["message_id"], &mail["to"]), (&json!("<m1@x>"), &json!(["ann@example.com"])));
    assert!(page.text("/").await.contains("Grüße"));
    assert_eq!(client.say("QUIT\r\n").await, 221);
}

#[tokio::test]
async fn message_ids_and_copies_are_counted_apart() {
    let (running, page) = start().await;
    let mut client = Client::greet(&running).await;
    for id in ["m1@x", "m2@x", "m1@x"] {
        client.mail("ann@example.com", &text(id)).await;
    }
    let (_, told) = page.get("/api/mails?message_id=%3Cm1%40x%3E").await;
    assert_eq!((&told["received"], &told["message_ids"], &told["repeats"]), (&json!(3), &json!(2), &json!(1)));
    assert_eq!((told["mails"].as_array().map(Vec::len), &told["mails"][0]["copies"]), (Some(2), &json!(2)));
    assert_eq!(page.delete("/api/mails").await.0, 204);
    assert_eq!(page.get("/api/mails").await.1["received"], json!(0));
}

#[tokio::test]
async fn commands_may_be_pipelined() {
    let (running, page) = start().await;
    let mut client = Client::greet(&running).await;
    let all = "MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<reject550@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n";
    client.send(all.as_bytes()).await;
    let mut codes = vec![];
    for _ in 0..5 {
        codes.push(client.code().await);
    }
    assert_eq!(codes, [250, 250, 550, 250, 354]);
    client.send(b"Message-ID: <p@x>\r\n\r\nHi\r\n.\r\nRSET\r\nNOOP\r\nQUIT\r\n").await;
    let mut codes = vec![];
    for _ in 0..4 {
        codes.push(client.code().await);
    }
    assert_eq!(codes, [250, 250, 250, 221]);
    assert_eq!(page.get("/api/mails").await.1["mails"][0]["to"], json!(["b@x", "c@x"]));
}

#[tokio::test]
async fn dots_are_unstuffed_and_a_bare_line_feed_ends_nothing() {
    let (running, page) = start().await;
    let mut client = Client::greet(&running).await;
    let smuggled = "Subject: s\r\n\r\n..one dot\r\n..\r\ny\r\n.\nx\n.\nMAIL FROM:<evil@x>\r\nlast\n.\r\ntail\r\n";
    assert_eq!(client.mail("ann@example.com", smuggled).await, [250, 250, 354, 250]);
    let (_, told) = page.get("/api/mails").await;
    assert_eq!(told["received"], json!(1));
    assert_eq!(
        told["mails"][0]["text"],
        json!(".one dot\r\n.\r\ny\r\n\nx\n.\nMAIL FROM:<evil@x>\r\nlast\n.\r\ntail\r\n")
    );
}

#[tokio::test]
async fn addresses_reject_defer_and_cut() {
    let (running, page) = start().await;
    let mut client = Client::greet(&running).await;
    assert_eq!(client.mail("reject550.ann@x", &text("a@x")).await, [250, 550]);
    client.say("RSET\r\n").await;
    assert_eq!(client.mail("reject554-data@x", &text("b@x")).await, [250, 250, 354, 554]);
    for expected in [vec![250, 451], vec![250, 250, 354, 250], vec![250, 250, 354, 250]] {
        assert_eq!(client.mail("defer451-once@x", &text("c@x")).await, expected);
        client.say("RSET\r\n").await;
    }
    assert_eq!(client.mail("cut-before-data-once@x", &text("d@x")).await, [250, 250, 0]);

    let mut client = Client::greet(&running).await;
    assert_eq!(client.mail("cut-before-data-once@x", &text("d@x")).await, [250, 250, 354, 250]);
    assert_eq!(client.mail("cut-after-data-once@x", &text("e@x")).await, [250, 250, 354, 0]);
    let mut client = Client::greet(&running).await;
    assert_eq!(client.mail("cut-after-data-once@x", &text("e@x")).await, [250, 250, 354, 250]);

    let (_, told) = page.get("/api/mails?message_id=%3Ce%40x%3E").await;
    assert_eq!(told["mails"][0]["copies"], json!(2));
    assert_eq!((&told["rejected"], &told["deferred"], &told["cut"]), (&json!(2), &json!(1), &json!(2)));
}

#[tokio::test]
async fn whatever_comes_in_it_goes_on() {
    let (running, page) = start().await;
    let mut client = Client::greet(&running).await;
    for (said, code) in [
        ("DATA\r\n", 503),
        ("RCPT TO:<a@x>\r\n", 503),
        ("MAIL FROM:a@x\r\n", 501),
        ("MAIL FROM\r\n", 501),
        ("MAIL é\r\n", 501),
        ("MAIL FROM:<a@x> SIZE=99999999999\r\n", 552),
        ("MAIL FROM:<>\r\n", 250),
        ("MAIL FROM:<a@x>\r\n", 503),
        ("RCPT TO:<>\r\n", 501),
        ("DATA\r\n", 503),
        ("\r\n", 502),
        ("HELP ME\r\n", 502),
        ("NOOP\n", 250),
    ] {
        assert_eq!(client.say(said).await, code, "{said:?}");
    }
    client.send(b"\xff\xfe\r\n").await;
    assert_eq!(client.code().await, 500);
    client.send(&[b'x'; 5000]).await;
    assert_eq!(client.code().await, 500);
    assert_eq!(client.code().await, 0);

    let mut client = Client::greet(&running).await;
    let line = format!("{}\r\n", "x".repeat(100_000));
    assert_eq!(client.mail("ann@x", &line.repeat(11)).await, [250, 250, 354, 552]);
    assert_eq!(client.mail("ann@x", &text("ok@x")).await, [250, 250, 354, 250]);
    assert_eq!(page.get("/api/mails").await.1["received"], json!(1));
    running.stop().await.expect("an end in order");
}

/// What it is told to answer wrongly it does, and nothing else; the mail of a wrong answer to its end is kept.
#[tokio::test]
async fn a_fault_is_one_phases_alone() {
    let line = |text: &str| Misanswer::Line(text.to_owned());
    for (phase, answer, codes) in [
        (Phase::Mail, line("550 no"), vec![550, 250, 354, 250]),
        (Phase::Rcpt, line("451 later"), vec![250, 451]),
        (Phase::Data, line("354 go on, please"), vec![250, 250, 354, 250]),
        (Phase::End, line("554 no"), vec![250, 250, 354, 554]),
        (Phase::End, Misanswer::Cut, vec![250, 250, 354, 0]),
    ] {
        let fault = Fault { phase, answer };
        let faults = mail::Faults { fault: Some(fault.clone()), ..mail::Faults::default() };
        let running = mail::start_with(ANYWHERE, ANYWHERE, None, 100, faults).await.expect("a mail catcher");
        let mut client = Client::greet(&running).await;
        assert_eq!(client.mail("ann@x", &text("m@x")).await, codes, "{fault:?}");
        let kept = Asker::new(running.url()).get("/api/mails").await.1["received"].clone();
        assert_eq!(kept, json!(i32::from(codes.len() == 4)), "{fault:?}");
    }
}

#[tokio::test]
async fn without_smtputf8_nothing_beyond_ascii_is_taken() {
    let faults = mail::Faults { without_smtputf8: true, ..mail::Faults::default() };
    let running = mail::start_with(ANYWHERE, ANYWHERE, None, 100, faults).await.expect("a mail catcher");
    let mut client = Client::greet(&running).await;
    assert_eq!(client.say("MAIL FROM:<shop@x> SMTPUTF8\r\n").await, 555);
    assert_eq!(client.mail("j\u{f6}rg@x", "").await, [250, 553]);
}

#[tokio::test]
async fn markup_arrives_as_text() {
    let (running, page) = start().await;
    let mut client = Client::greet(&running).await;
    let text = "Subject: <script>alert(1)</script>\r\n\r\n<img src=x onerror='alert(2)'>\r\n";
    client.mail("\"<b>\"@example.com", text).await;
    for path in ["/", "/mails/1"] {
        let html = page.text(path).await;
        assert!(!html.contains("<script>") && !html.contains("<img") && !html.contains("<b>"), "{html}");
        assert!(html.contains("&lt;script&gt;alert(1)"));
    }
}

#[tokio::test]
async fn mails_outlive_the_catcher() {
    let journal = scratch("mail");
    for count in 1..=2 {
        let running = mail::start(ANYWHERE, ANYWHERE, Some(&journal), 100).await.expect("a mail catcher");
        let mut client = Client::greet(&running).await;
        client.mail("ann@example.com", &text("m1@x")).await;
        let (_, told) = Asker::new(running.url()).get("/api/mails").await;
        assert_eq!((&told["received"], &told["message_ids"]), (&json!(count), &json!(1)));
        running.stop().await.expect("an end");
    }
    let _ = std::fs::remove_file(journal);
}
