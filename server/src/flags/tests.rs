use std::time::Duration;

use natrix_core::config::{Loaded, Options, Source, TlsOptions, load_text};

use super::*;

fn parse_line(line: &str) -> Result<Invocation, FlagError> {
    let arguments: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    parse(&arguments)
}

/// A machine where every certificate is fine and no file exists.
struct NoFiles;

impl Source for NoFiles {
    fn read(&self, _path: &str) -> Result<Vec<u8>, String> {
        Err("no such file or directory".to_owned())
    }

    fn env(&self, _name: &str) -> Option<String> {
        None
    }

    fn check_tls(&self, _tls: &TlsOptions) -> Result<(), String> {
        Ok(())
    }
}

/// Lays a command line over a configuration.
fn over(file: &str, line: &str) -> Result<Options, String> {
    let arguments: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let flags = match parse(&arguments).map_err(|error| error.to_string())? {
        Invocation::Run(flags) => flags,
        other => panic!("{line} doesn't run the server: {other:?}"),
    };
    let overrides = flags.overrides().map_err(|error| error.to_string())?;
    let loaded = match file {
        "" => Loaded::default(),
        text => load_text(&NoFiles, text.as_bytes()).unwrap(),
    };
    loaded.into_options(&NoFiles, &overrides).map_err(|error| error.to_string())
}

fn options(line: &str) -> Options {
    over("", line).unwrap()
}

fn refused(line: &str) -> String {
    match parse_line(line) {
        Err(FlagError::Grammar(text)) => format!("grammar: {text}"),
        Err(FlagError::Refused(text)) => format!("refused: {text}"),
        Ok(_) => match over("", line) {
            Err(error) => format!("refused: {error}"),
            Ok(_) => format!("not refused: {line}"),
        },
    }
}

#[test]
fn a_value_may_stand_in_the_next_argument_or_behind_an_equals_sign() {
    for line in ["-p 5222", "--p 5222", "-p=5222", "--port=5222", "-port 5222", "-p 1 -port 5222"] {
        assert_eq!(options(line).port, 5222, "{line}");
    }
    for line in ["-a 127.0.0.1", "--addr=127.0.0.1", "-net 127.0.0.1"] {
        assert_eq!(options(line).host, "127.0.0.1", "{line}");
    }
    for line in ["-n x", "--name x", "--server_name=x"] {
        assert_eq!(options(line).server_name.as_deref(), Some("x"), "{line}");
    }
    let with_equals = options("--user=a=b");
    assert_eq!(with_equals.username.as_deref(), Some("a=b"));
}

#[test]
fn switches_need_no_value_and_take_none_from_the_next_argument() {
    assert!(options("-D").logging.debug);
    assert!(!options("-D=false").logging.debug);
    assert!(!options("-T=0").logging.logtime);
    assert_eq!(refused("-D x"), r#"refused: unrecognized command: "x""#);
}

#[test]
fn what_is_not_in_the_grammar_is_told_in_the_words_of_go() {
    let lines = [
        "--bogus",
        "-p abc",
        "-p",
        "-p=",
        "-DV=maybe",
        "---p",
        "-=3",
        "-p 99999999999999999999",
        "-log_size_limit 1x",
    ];
    insta::assert_snapshot!(lines.map(refused).join("\n"), @r#"
    grammar: flag provided but not defined: -bogus
    grammar: invalid value "abc" for flag -p: parse error
    grammar: flag needs an argument: -p
    grammar: invalid value "" for flag -p: parse error
    grammar: invalid boolean value "maybe" for -DV: parse error
    grammar: bad flag syntax: ---p
    grammar: bad flag syntax: -=3
    grammar: invalid value "99999999999999999999" for flag -p: value out of range
    grammar: invalid value "1x" for flag -log_size_limit: parse error
    "#);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let lines = ["-t", "foo", "-", "-- foo", "--tls", "--tls --tlscert x", "--tlsverify", "-m 70000"];
    insta::assert_snapshot!(lines.map(refused).join("\n"), @r#"
    refused: must specify [-c, --config] option to check configuration file syntax
    refused: unrecognized command: "foo"
    refused: unrecognized command: "-"
    refused: unrecognized command: "foo"
    refused: TLS Server certificate must be present and valid
    refused: TLS Server private key must be present and valid
    refused: TLS Server certificate must be present and valid
    refused: invalid port 70000
    "#);
    let Invocation::Run(flags) = parse(&["-n".to_owned(), "a b".to_owned()]).unwrap() else { panic!() };
    let error = Loaded::default().into_options(&NoFiles, &flags.overrides().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "server name cannot contain spaces");
}

#[test]
fn what_natrix_does_not_have_is_refused_by_name() {
    let lines = [
        "--routes nats://x:1",
        "--cluster nats://x:1",
        "--cluster_name c",
        "--cluster_listen=nats://x:1",
        "--cluster_advertise x",
        "--no_advertise",
        "--connect_retries 3",
        "--profile 65432",
    ];
    insta::assert_snapshot!(lines.map(refused).join("\n"), @r"
    refused: flag --routes: natrix has no routes yet
    refused: flag --cluster_listen: natrix has no cluster listener yet
    refused: flag --cluster_name: natrix has no cluster name yet
    refused: flag --cluster_listen: natrix has no cluster listener yet
    refused: flag --cluster_advertise: natrix has no cluster advertising yet
    refused: flag --no_advertise: natrix has no cluster to advertise yet
    refused: flag --connect_retries: natrix has no connect retries of routes yet
    refused: flag --profile: natrix has no profiler yet
    ");
    assert_eq!(options("-js=false --routes= --profile 0"), Options::default());
}

#[test]
fn words_and_flags_that_only_print() {
    for line in ["-v", "--version", "version", "VERSION", "-v -h foo", "-js -v"] {
        assert_eq!(parse_line(line), Ok(Invocation::Version), "{line}");
    }
    for line in ["-h", "--help", "help", "-- help", "-D help -js", "-js -h"] {
        assert_eq!(parse_line(line), Ok(Invocation::Help), "{line}");
    }
    assert_eq!(parse_line("--help_tls"), Ok(Invocation::HelpTls));
    // The whole line must be in the grammar first.
    assert_eq!(refused("-v --bogus"), "grammar: flag provided but not defined: -bogus");
}

#[test]
fn signals_come_with_their_target() {
    for line in ["-sl ldm=/run/nats.pid", "-sl=ldm=/run/nats.pid", "--signal=ldm=/run/nats.pid"] {
        assert_eq!(parse_line(line), Ok(Invocation::Signal("ldm=/run/nats.pid".to_owned())), "{line}");
    }
}

#[test]
fn ports_that_stand_for_something() {
    assert_eq!(options("-p -1").port, 0);
    assert_eq!(over("port: 5222", "-p 0").unwrap().port, 4222);
    assert_eq!(options("-m 8222").monitoring.http_port, Some(8222));
    assert_eq!(options("-m -1").monitoring.http_port, Some(0));
    assert_eq!(options("-ms 8443").monitoring.https_port, Some(8443));
    assert_eq!(over("http_port: 8222", "--http_port 0").unwrap().monitoring.http_port, None);
}

#[test]
fn impossible_client_ports_are_told_apart() {
    for (line, impossible) in
        [("-p 70000", Some(70_000)), ("-p -5", Some(-5)), ("-p -1", None), ("-p 0", None), ("-D", None)]
    {
        let Invocation::Run(flags) = parse_line(line).unwrap() else { panic!("{line}") };
        assert_eq!(flags.impossible_port(), impossible, "{line}");
        assert!(flags.overrides().unwrap().port.is_none_or(|port| impossible != Some(port)));
    }
}

#[test]
fn trace_flags_combine() {
    let logging = |line: &str| {
        let logging = options(line).logging;
        (logging.debug, logging.trace, logging.trace_verbose)
    };
    assert_eq!(logging("-V"), (false, true, false));
    assert_eq!(logging("-VV"), (false, true, true));
    assert_eq!(logging("-DV"), (true, true, false));
    assert_eq!(logging("-DVV"), (true, true, true));
    assert_eq!(logging("-DV -D=false"), (true, true, false));
    assert_eq!(logging("-DVV -VV=false"), (true, false, false));
    let off = over("debug: true, trace: true", "-DV=false").unwrap().logging;
    assert_eq!((off.debug, off.trace), (false, false));
}

#[test]
fn flags_win_over_a_file_and_leave_the_rest_of_it() {
    let file = r#"port: 5222, host: 10.0.0.1, log_file: "file.log", pid_file: "file.pid"
        authorization { user: filer, password: filed }"#;
    let merged = over(file, "--user flagger --pass flagged --log flag.log -a 127.0.0.1 --pid=").unwrap();
    assert_eq!(merged.port, 5222);
    assert_eq!((merged.host.as_str(), merged.monitoring.host.as_str()), ("127.0.0.1", "127.0.0.1"));
    assert_eq!(merged.logging.log_file.as_deref(), Some("flag.log"));
    assert_eq!(merged.username.as_deref(), Some("flagger"));
    assert_eq!(merged.password.as_ref().map(Secret::expose), Some("flagged"));
    assert_eq!(merged.pid_file, None);

    assert_eq!(over("http: \"127.0.0.1:8222\"", "-a 10.0.0.1").unwrap().monitoring.host, "127.0.0.1");
}

#[test]
fn all_the_other_settings() {
    let all = options(
        "-P p.pid --ports_file_dir d --client_advertise h:1 --auth t -s -r udp://h:1 --logtime_utc \
         --log_size_limit 1000 --max_traced_msg_len 10 --shards 3",
    );
    assert_eq!(all.pid_file.as_deref(), Some("p.pid"));
    assert_eq!(all.ports_file_dir.as_deref(), Some("d"));
    assert_eq!(all.client_advertise.as_deref(), Some("h:1"));
    assert_eq!(all.token.as_ref().map(Secret::expose), Some("t"));
    assert!(all.logging.syslog && all.logging.logtime_utc);
    assert_eq!(all.logging.remote_syslog.as_deref(), Some("udp://h:1"));
    assert_eq!(all.logging.log_size_limit, Some(1000));
    assert_eq!(all.logging.max_traced_msg_len, Some(10));
    assert_eq!(all.shards, Some(3));
    assert_eq!(options("--log_size_limit -1 --max_traced_msg_len 0 --shards 0"), Options::default());
}

#[test]
fn streams_are_switched_on_and_off_and_put_elsewhere() {
    let parts = |options: Options| (options.jetstream.is_some(), options.store_dir);
    let data = || Some("/data".to_owned());
    assert_eq!(parts(options("-js")), (true, None));
    for line in ["--jetstream -sd /data", "-js=true --store_dir=/data", "-js -sd /other -store_dir /data"] {
        assert_eq!(parts(options(line)), (true, data()), "{line}");
    }
    assert_eq!(parts(options("-sd /data")), (false, data()));
    let file = "jetstream { store_dir: /file, max_mem: 1k }";
    assert_eq!(parts(over(file, "-js=false").unwrap()), (false, Some("/file".to_owned())));
    assert_eq!(parts(over(file, "-sd /data").unwrap()), (true, data()));
    assert_eq!(over(file, "-js").unwrap().jetstream.unwrap().max_memory, Some(1000));
}

#[test]
fn tls_flags_replace_what_the_file_said() {
    let tls = |options: Options| options.tls;
    let given = tls(options("--tls --tlscert c.pem --tlskey k.pem")).unwrap();
    assert_eq!(given.certificates[0].cert_file, "c.pem");
    assert!(!given.verify);
    let verifying = tls(options("-tlsverify -tlscert=c -tlskey=k -tlscacert=ca")).unwrap();
    assert!(verifying.verify);
    assert_eq!(verifying.ca_file.as_deref(), Some("ca"));

    let file = r#"tls { cert_file: "a", key_file: "b", verify: true, timeout: 7 }"#;
    let merged = tls(over(file, "--tlscert c --tlskey k").unwrap()).unwrap();
    assert_eq!((merged.verify, merged.timeout), (false, Duration::from_secs(7)));
    assert_eq!(merged.certificates[0].cert_file, "c");
    assert_eq!(tls(over(file, "--tls=false --tlscert c").unwrap()), None);
    assert!(tls(over(file, "-D").unwrap()).unwrap().verify);
}

#[test]
fn a_handshake_lengthens_the_default_time_to_authenticate() {
    let with_tls = options("--tls --tlscert c --tlskey k");
    assert_eq!(with_tls.auth_timeout, with_tls.tls_timeout() + Duration::from_secs(1));
    let chosen = over("authorization { timeout: 5 }", "--tls --tlscert c --tlskey k").unwrap();
    assert_eq!(chosen.auth_timeout, Duration::from_secs(5));
}

#[test]
fn usage_and_version_go_by_the_name_of_the_program() {
    assert_eq!(version_line("nats-server"), "nats-server: v2.15.1");
    assert!(version_line("natrix").starts_with("natrix: v2.15.1 (natrix "));
    let usage = usage("nats-server");
    assert!(usage.starts_with("\nUsage: nats-server [options]\n\nServer Options:\n"));
    for line in usage.lines().filter(|line| line.trim_start().starts_with('-')) {
        for name in
            line.split_whitespace().flat_map(|word| word.split(',')).take_while(|word| word.starts_with('-'))
        {
            assert!(table::find(name.trim_start_matches('-')).is_some(), "{name} is no flag");
        }
    }
    assert!(tls_help().contains("    TLS_AES_128_GCM_SHA256\n"));
}
