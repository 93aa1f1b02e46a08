use proptest::prelude::*;

use super::*;
use crate::protocol::quote::quote;

/// The harness of the fuzz target, over this parser.
use super as api;
#[expect(unreachable_pub, reason = "the fuzz target shares it")]
#[path = "../../../../sim-tests/fuzz/harness/client_parser.rs"]
mod harness;

fn limits() -> ParseLimits {
    ParseLimits::default()
}

/// Parses what must be one frame and nothing else.
fn one(input: &[u8]) -> ClientFrame<'_> {
    match parse(input, &limits()) {
        Ok(Parsed::Frame { len, frame }) if len == input.len() => frame,
        other => panic!("{}: {other:?}", quote(input)),
    }
}

fn publish_line<'a>(
    subject: &'a str,
    reply: Option<&'a str>,
    header_len: Option<usize>,
    total_len: usize,
) -> ClientFrame<'a> {
    let (subject, reply) = (subject.as_bytes(), reply.map(str::as_bytes));
    ClientFrame::Publish(PublishLine { subject, reply, header_len, total_len })
}

fn subscribe_line<'a>(subject: &'a str, queue: Option<&'a str>, sid: &'a str) -> ClientFrame<'a> {
    ClientFrame::Subscribe {
        subject: subject.as_bytes(),
        queue: queue.map(str::as_bytes),
        sid: sid.as_bytes(),
    }
}

#[test]
fn verbs_are_known_in_any_case_and_end_as_they_like() {
    for input in ["PING\r\n", "ping\n", "PiNg\r\n", "PING \r\n", "PINGxyz\r\n", "PING\r\r\n"] {
        assert_eq!(one(input.as_bytes()), ClientFrame::Ping, "{input:?}");
    }
    for input in ["PONG\r\n", "pong\n", "pOnG junk\r\n"] {
        assert_eq!(one(input.as_bytes()), ClientFrame::Pong, "{input:?}");
    }
    for input in ["+OK\r\n", "+ok\n", "+OKjunk\r\n"] {
        assert_eq!(one(input.as_bytes()), ClientFrame::Ok, "{input:?}");
    }
    assert_eq!(one(b"-ERR  'a b' \r\n"), ClientFrame::Err(b"'a b' "));
    assert_eq!(one(b"-err x\n"), ClientFrame::Err(b"x"));
    assert_eq!(one(b"INFO {}\r\n"), ClientFrame::Info(b"{}"));
    assert_eq!(one(b"INFO\r\n"), ClientFrame::Info(b"\r"));
    assert_eq!(one(b"connect \t{}\r\n"), ClientFrame::Connect(b"{}"));
    assert_eq!(one(b"CONNECT{}\n"), ClientFrame::Connect(b"{}"));
    assert_eq!(one(b"CONNECT \r\n"), ClientFrame::Connect(b"\r"));
}

#[test]
fn publish_lines() {
    let cases: &[(&[u8], ClientFrame<'_>)] = &[
        (b"PUB foo 5\r\n", publish_line("foo", None, None, 5)),
        (b"pub\tfoo\t5\n", publish_line("foo", None, None, 5)),
        (b"PUB foo.bar INBOX.22 11\r\n", publish_line("foo.bar", Some("INBOX.22"), None, 11)),
        (
            b"PUB   foo.bar \t INBOX.22  2097152 \r\n",
            publish_line("foo.bar", Some("INBOX.22"), None, 2_097_152),
        ),
        (b"PUB foo 22 33\r\n", publish_line("foo", Some("22"), None, 33)),
        (b"PUB foo 5 \r\n", publish_line("foo", None, None, 5)),
        (b"PUB foo  5\r\n", publish_line("foo", None, None, 5)),
        (b"PUB foo r 5 \r\n", publish_line("foo", Some("r"), None, 5)),
        (b"PUB foo 0000\r\n", publish_line("foo", None, None, 0)),
        (b"PUB foo 999999999\r\n", publish_line("foo", None, None, 999_999_999)),
        (b"PUB \nfoo 1\r\n", publish_line("\nfoo", None, None, 1)),
        // A carriage return anywhere costs the last byte, and is itself kept in a publish.
        (b"PUB fo\ro 12\n", publish_line("fo\ro", None, None, 1)),
        (b"HPUB foo 12 17\r\n", publish_line("foo", None, Some(12), 17)),
        (b"hpub foo r 0 0\r\n", publish_line("foo", Some("r"), Some(0), 0)),
        (b"HPUB\tfoo\t\tr 12  12 \n", publish_line("foo", Some("r"), Some(12), 12)),
    ];
    for (input, frame) in cases {
        assert_eq!(one(input), *frame, "{}", quote(input));
    }
}

#[test]
fn subscription_lines() {
    let unsubscribe = |sid: &'static [u8], max| ClientFrame::Unsubscribe { sid, max };
    let cases: &[(&[u8], ClientFrame<'_>)] = &[
        (b"SUB foo 1\r\n", subscribe_line("foo", None, "1")),
        (b"SUB foo.* workers 1\r\n", subscribe_line("foo.*", Some("workers"), "1")),
        (b"sub\t foo\t\tqueue  abc \n", subscribe_line("foo", Some("queue"), "abc")),
        (b"SUB \nfoo 1\r\n", subscribe_line("foo", None, "1")),
        (b"SUB foo\rbar 1\r\n", subscribe_line("foo", Some("bar"), "1")),
        (b"SUB foo 12\r\r\n", subscribe_line("foo", None, "12")),
        (b"UNSUB 1\r\n", unsubscribe(b"1", None)),
        (b"UNSUB 1 5\r\n", unsubscribe(b"1", Some(5))),
        (b"unsub  abc\t999999999\n", unsubscribe(b"abc", Some(999_999_999))),
        (b"UNSUB 1 0\r\n", unsubscribe(b"1", None)),
        (b"UNSUB 1 -1\r\n", unsubscribe(b"1", None)),
        (b"UNSUB 1 x\r\n", unsubscribe(b"1", None)),
        (b"UNSUB 1 1234567890\r\n", unsubscribe(b"1", None)),
    ];
    for (input, frame) in cases {
        assert_eq!(one(input), *frame, "{}", quote(input));
    }
}

/// Every line of the script is offered on its own (`\n` and the like are escapes), and answered with what happened:
/// the frame, or what the client and the log are told.
fn run(script: &str) -> String {
    let mut transcript = String::new();
    for command in script.lines().filter_map(|line| line.strip_prefix("        ")) {
        let input = command.replace("\\r", "\r").replace("\\n", "\n");
        let heard = match parse(input.as_bytes(), &limits()) {
            Ok(Parsed::Incomplete) => "(waits)".to_owned(),
            Ok(Parsed::Frame { len, frame: ClientFrame::Publish(line) }) => {
                match split_payload(&input.as_bytes()[len..], &line) {
                    Ok(None) => "PUB (waits)".to_owned(),
                    Ok(Some(body)) => format!("PUB {}", quote(body.payload)),
                    Err(error) => told(&error, &input.as_bytes()[len..]),
                }
            }
            Ok(Parsed::Frame { frame, .. }) => {
                format!("{frame:?}").split([' ', '(']).next().unwrap_or_default().to_owned()
            }
            Err(error) => told(&error, input.as_bytes()),
        };
        transcript += &format!("{command}\n  {heard}\n");
    }
    transcript
}

fn told(error: &ParseError, input: &[u8]) -> String {
    format!("-ERR {:?} | {}", error.wire_text(), error.log_text(input))
}

#[test]
fn a_wrong_byte_is_an_error_at_once() {
    insta::assert_snapshot!(run(r"
        P
        PU
        FOO
        PX
        PUX
        PUBx
        PUB\r\n
        PING
        PIM
        POX
        HPUBx
        HM
        SUx
        UNSUx
        UNSUB\r\n
        CONNECx
        INx
        +O
        +X
        -ERR\r\n
        -ERRx
        \r\n
         PING\r\n
        RS+ foo\r\n
        LS+ foo\r\n
        A+ foo\r\n
        MSG foo 1 2\r\n
    "));
}

#[test]
fn arguments_that_make_no_sense() {
    insta::assert_snapshot!(run(r"
        PUB \r\n
        PUB foo\r\n
        PUB foo 1 2 3\r\n
        PUB foo 1 2 3 4 5\r\n
        PUB foo -1\r\n
        PUB foo 1x\r\n
        PUB foo 1234567890\r\n
        PUB foo 999999999999999999999\r\n
        PUB foo 1\r\r\n
        HPUB foo\r\n
        HPUB foo 1\r\n
        HPUB foo r 1 2 3\r\n
        HPUB foo x 10\r\n
        HPUB foo -1 10\r\n
        HPUB foo 1 y\r\n
        HPUB foo 12 10\r\n
        SUB foo\r\n
        SUB foo a b c\r\n
        SUB \r\n
        UNSUB \r\n
        UNSUB 1 2 3\r\n
    "));
}

#[test]
fn payloads_end_where_their_size_says() {
    insta::assert_snapshot!(run(r"
        PUB foo 5\r\nhello\r\n
        PUB foo 5\r\nhello\r
        PUB foo 5\r\nhello
        PUB foo 5\r\nhel
        PUB foo 0\r\n\r\n
        PUB foo 4\r\n\r\n\r\n\r\n
        PUB foo 2\r\nokXX
        PUB foo 2\r\nok\rX
        PUB foo 2\nok\n
        PUB foo 1\r\nab\r\n
        PUB foo 5\r\nhelloPING\r\n
    "));
}

#[test]
fn the_control_line_is_limited_before_its_end_arrives() {
    let exact = format!("PUB {} 1\r\n", "a".repeat(4094));
    assert!(matches!(parse(exact.as_bytes(), &limits()), Ok(Parsed::Frame { .. })));
    let error = ParseError::ControlLine { limit: 4096 };
    let too_long = Err(error);
    for verb in ["PUB ", "HPUB ", "SUB ", "UNSUB ", "CONNECT ", "INFO ", "-ERR "] {
        for end in ["", "\r", "\r\n", "\n"] {
            assert_eq!(
                parse(format!("{verb}{}{end}", "a".repeat(4097)).as_bytes(), &limits()),
                too_long,
                "{verb}{end:?}"
            );
        }
        // The carriage return isn't counted.
        let full = format!("{verb}{}", "a".repeat(4096));
        assert_eq!(parse(full.as_bytes(), &limits()), Ok(Parsed::Incomplete), "{verb}");
        assert_eq!(parse(format!("{full}\r").as_bytes(), &limits()), Ok(Parsed::Incomplete), "{verb}");
        assert_ne!(parse(format!("{full}\r\n").as_bytes(), &limits()), too_long, "{verb}");
    }
    // Neither is what isn't an argument, though it is limited too.
    assert_eq!(
        one(format!("SUB {}foo 1\r\n", " ".repeat(4000)).as_bytes()),
        subscribe_line("foo", None, "1")
    );
    assert_eq!(parse(format!("SUB {}", " ".repeat(4097)).as_bytes(), &limits()), too_long);
    assert_eq!(one(format!("PING{}\r\n", "x".repeat(4000)).as_bytes()), ClientFrame::Ping);
    assert_eq!(parse(format!("PING{}", "x".repeat(4097)).as_bytes(), &limits()), too_long);
    assert_eq!(error.wire_text(), Some("maximum control line exceeded"));
    assert_eq!(error.log_text(b""), "maximum control line exceeded");
}

#[test]
fn a_publish_that_is_shorter_than_it_says_swallows_the_next_one_and_fails() {
    let mut connection = harness::Reassembly::new(limits());
    connection
        .read(format!("PUB x 100\r\n{}PUB x 100\r\n{}\r\n", "b".repeat(30), "c".repeat(100)).as_bytes());
    assert_eq!(connection.events.len(), 1);
    assert!(connection.events[0].starts_with("UnknownOperation"), "{:?}", connection.events);
}

#[test]
fn a_traced_line_shows_its_arguments() {
    for (line, trace) in [
        ("PUB foo 5\r\n", ("PUB", "foo 5")),
        ("hpub \tfoo r  1 5 \r\n", ("HPUB", "foo r  1 5 ")),
        ("sub foo 1\n", ("SUB", "foo 1")),
        ("UNSUB 1 5\r\n", ("UNSUB", "1 5")),
        ("PING\r\n", ("PING", "")),
        ("PONGx\r\n", ("PONG", "")),
        ("CONNECT{}\r\n", ("CONNECT", "{}")),
        ("-ERR 'x'\r\n", ("-ERR", "'x'")),
    ] {
        let (verb, arguments) = trace_text(line.as_bytes());
        assert_eq!((verb, std::str::from_utf8(arguments).unwrap()), trace, "{line:?}");
    }
}

#[test]
fn the_seed_corpus_is_heard_alike_however_it_is_cut() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim-tests/fuzz/seeds/client_parser");
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        #[expect(clippy::disallowed_methods, reason = "a test's data")]
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        harness::check(&data);
        seeds += 1;
    }
    assert!(seeds >= 20, "the corpus has gone: {seeds} seeds");
}

#[test]
fn an_unfinished_body_is_waited_for() {
    let mut connection = harness::Reassembly::new(limits());
    connection.read(b"PUB foo 5\r\nhel");
    assert!(connection.waits_for_body() && connection.events.is_empty());
    connection.read(b"lo\r\nPING\r");
    assert!(!connection.waits_for_body() && connection.events.len() == 1);
    connection.read(b"\n");
    assert_eq!(connection.events[1], "Ping");
}

/// Pieces of protocol, right and wrong, to be strung together.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        Just("PUB "),
        Just("HPUB "),
        Just("SUB "),
        Just("UNSUB "),
        Just("CONNECT "),
        Just("INFO "),
        Just("-ERR "),
        Just("PING\r\n"),
        Just("PONG\r\n"),
        Just("+OK\r\n"),
        Just("PUB foo 3\r\nabc\r\n"),
        Just("SUB foo 1\r\n"),
        Just("HPUB foo 1 3\r\nabc\r\n"),
        Just("PUB foo r 0\r\n\r\n"),
        Just("UNSUB 1 3\r\n"),
        Just("CONNECT {}\r\n"),
        Just("foo "),
        Just("r "),
        Just("3"),
        Just(" "),
        Just("\t"),
        Just("\r"),
        Just("\n"),
        Just("\r\n"),
        Just("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        Just("abc\r\n"),
    ];
    prop_oneof![
        8 => text.prop_map(|text| text.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn cuts_do_not_change_what_is_heard(
        pieces in prop::collection::vec(piece(), 0..24),
        lengths in prop::collection::vec(1..24usize, 1..6),
        limit in prop_oneof![Just(8usize), Just(40), Just(4096)],
    ) {
        let input = pieces.concat();
        let limits = ParseLimits { max_control_line: limit };
        let whole = harness::heard(&input, limits, &[]);
        prop_assert_eq!(&whole, &harness::heard(&input, limits, &lengths));
        prop_assert_eq!(&whole, &harness::heard(&input, limits, &[1]));
    }

    #[test]
    fn a_blank_is_found_where_it_is(text in prop::collection::vec(prop_oneof![
        Just(b' '), Just(b'\t'), Just(b'!'), Just(b'\x08'), Just(b'\n'), Just(0xa0), Just(b'a'), any::<u8>(),
    ], 0..40)) {
        prop_assert_eq!(find_blank(&text), text.iter().position(|byte| is_blank(*byte)));
        let dense: Vec<u8> = text.iter().map(|byte| if is_blank(*byte) { byte + 1 } else { *byte }).collect();
        prop_assert_eq!(find_blank(&dense), dense.iter().position(|byte| is_blank(*byte)));
    }

    /// What a well-behaved client writes is read back, in whatever letters and with whatever blanks.
    #[test]
    fn well_formed_publishes_are_read_back(
        subject in "[a-z.*>]{1,20}",
        reply in prop::option::of("[A-Z_.]{1,20}"),
        headers in prop::option::of(0..50usize),
        payload_len in 0..2000usize,
        blank in "[ \t]{1,3}",
        end in "\r?\n",
    ) {
        let total_len = headers.unwrap_or(0) + payload_len;
        let mut words = vec![if headers.is_some() { "HPub" } else { "pUB" }.to_owned(), subject.clone()];
        words.extend(reply.clone());
        words.extend(headers.map(|len| len.to_string()));
        words.push(total_len.to_string());
        let line = words.join(&blank) + &end;
        prop_assert_eq!(one(line.as_bytes()), publish_line(&subject, reply.as_deref(), headers, total_len));
    }
}
