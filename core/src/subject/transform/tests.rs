use super::*;

fn strict(source: &str, destination: &str) -> Result<Option<SubjectTransform>, TransformError> {
    SubjectTransform::new_strict(source, destination)
}

fn lax(source: &str, destination: &str) -> Result<Option<SubjectTransform>, TransformError> {
    SubjectTransform::new(source, destination)
}

fn apply(source: &str, destination: &str, subject: &str) -> String {
    let transform = lax(source, destination).unwrap().expect("a destination");
    let mut rng = Rng::from_u64(1);
    String::from_utf8(transform.apply(subject.as_bytes(), &mut rng).unwrap()).unwrap()
}

#[test]
fn place_holders_are_read() {
    let read = |token| parse_place_holder(token).unwrap();
    let partition = Some(PlaceHolder::Partition { buckets: 10, indexes: vec![1, 2, 3] });
    let cut = |how, index, size| Some(PlaceHolder::Cut { how, index, size });
    use super::function::Cut::*;
    assert_eq!(read("$1"), Some(PlaceHolder::Wildcard(1)));
    assert_eq!(read("$"), None);
    assert_eq!(read("$SYS"), None);
    assert_eq!(read("plain"), None);
    assert_eq!(read("{{}}"), None);
    assert_eq!(read("{{partition(10,1,2,3)}}"), partition);
    assert_eq!(read("{{ Partition (10,1,  2,3) }}"), partition);
    assert_eq!(read("{{wildcard(2)}}"), Some(PlaceHolder::Wildcard(2)));
    assert_eq!(read("{{ Wildcard\t( 2 )  }}"), Some(PlaceHolder::Wildcard(2)));
    assert_eq!(read("{{SplitFromLeft(2,1)}}"), cut(SplitFromLeft, 2, 1));
    assert_eq!(read("{{splitfromleft(2,1)}}"), cut(SplitFromLeft, 2, 1));
    assert_eq!(read("{{SplitFromRight(3,2)}}"), cut(SplitFromRight, 3, 2));
    assert_eq!(read("{{SliceFromLeft(2,2)}}"), cut(SliceFromLeft, 2, 2));
    assert_eq!(read("{{sliceFromRight(2,2)}}"), cut(SliceFromRight, 2, 2));
    assert_eq!(read("{{Left(3,2)}}"), cut(Left, 3, 2));
    assert_eq!(read("{{Right(3,2)}}"), cut(Right, 3, 2));
    assert_eq!(read("{{random(7)}}"), Some(PlaceHolder::Random { ceiling: 7 }));
    let split = PlaceHolder::Split { index: 1, delimiter: "-".into() };
    assert_eq!(read("{{Split(1, -)}}"), Some(split));
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_the_reference() {
    let check = |result: Result<Option<SubjectTransform>, TransformError>, text: &str| {
        assert_eq!(result.unwrap_err().to_string(), text);
    };
    check(lax("foo..", "bar"), "invalid subject");
    check(lax("foo.*", "bar.*"), "invalid subject");
    check(lax("foo.*", "bar.$1.>"), "invalid subject");
    check(lax("foo.>", "bar.baz"), "invalid subject");
    check(lax("foo.>.x", "bar.>"), "invalid subject");
    check(lax("foo.*", "bar.$2"), "invalid mapping destination: wildcard index out of range in $2: [2]");
    check(
        strict("foo.*.*", "bar.$2"),
        "invalid mapping destination: not using all of the token wildcard(s) in bar.$2",
    );
    check(
        strict("foo.*", "foo.$foo"),
        "invalid mapping destination: not using all of the token wildcard(s) in foo.$foo",
    );
    check(
        strict("foo.*", "bar.{{Partition(2,1)}}"),
        "invalid mapping destination: the only mapping function allowed for import transforms is {{Wildcard()}} in \
         {{Partition(2,1)}}",
    );
    let check = |destination: &str, text: &str| {
        let token = &destination[4..];
        let text = format!("invalid mapping destination: {text} in {token}");
        check(lax("foo.*", destination), &text);
    };
    check("foo.{{unimplemented(1)}}", "unknown function");
    check("foo.{{ wildcard5) }}", "unknown function");
    check("foo.{{splitLeft(2,2}}", "unknown function");
    check("foo.{{WILDCARD(1)}}", "unknown function");
    check("foo.{{wildcard()}}", "not enough arguments passed to the function");
    check("foo.{{wildcard(1,2)}}", "too many arguments passed to the function");
    check("foo.{{wildcard(foo)}}", "function argument is invalid or in the wrong format");
    check("foo.{{partition()}}", "function argument is invalid or in the wrong format");
    check("foo.{{partition(2,x)}}", "function argument is invalid or in the wrong format");
    check("foo.{{partition(2147483648)}}", "function argument is invalid or in the wrong format");
    check("foo.{{random()}}", "function argument is invalid or in the wrong format");
    check("foo.{{random(1,2)}}", "not enough arguments passed to the function");
    check("foo.{{random(2147483648)}}", "function argument is invalid or in the wrong format");
    check("foo.{{left(1)}}", "not enough arguments passed to the function");
    check("foo.{{left(1,2,3)}}", "too many arguments passed to the function");
    check("foo.{{left(1,2147483648)}}", "function argument is invalid or in the wrong format");
    check("foo.{{split(1)}}", "not enough arguments passed to the function");
    check("foo.{{split(1,a,b)}}", "too many arguments passed to the function");
    check("foo.{{split(1,a b)}}", "function argument is invalid or in the wrong format");
    // `bla.{{…}}` with a source that has no wildcard.
    assert_eq!(
        lax("foo", "bla.{{wildcard(1)}}").unwrap_err().to_string(),
        "invalid mapping destination: wildcard index out of range in {{wildcard(1)}}"
    );
    assert_eq!(
        lax("foo.*", "foo.{{wildcard(2)}}").unwrap_err().to_string(),
        "invalid mapping destination: wildcard index out of range in {{wildcard(2)}}: [2]"
    );
}

#[test]
fn these_are_fine() {
    assert!(strict("foo.*", "bar.{{Wildcard(1)}}").unwrap().is_some());
    for (source, destination) in [
        ("foo.*.*", "bar.$2"),
        ("foo.*.*", "bar.{{wildcard(1)}}"),
        ("foo.*.*", "bar.{{partition(1)}}"),
        ("foo.*.*", "bar.{{random(5)}}"),
        ("foo", "bar"),
        ("foo.*.bar.*.baz", "req.$2.$1"),
        ("baz.>", "mybaz.>"),
        ("*", "{{splitfromleft(1,1)}}"),
        ("", "prefix.>"),
        ("*.*", "{{partition(10,1,2)}}"),
        ("foo.*.*", "foo.{{wildcard(1)}}.{{wildcard(2)}}.{{partition(5,1,2)}}"),
        ("foo.*", "foo.{{partition(2147483647)}}"),
        ("foo.*", "foo.{{random(2147483647)}}"),
        ("foo.bar", "foo.{{random(2147483647)}}"),
        ("foo.bar", "baz.{{partition(10)}}"),
    ] {
        assert!(lax(source, destination).unwrap().is_some(), "{source} {destination}");
    }
    assert!(lax("foo", "").unwrap().is_none());
}

#[test]
fn subjects_are_transformed() {
    for (source, destination, subject, expected) in [
        ("", "prefix.>", "foo", "prefix.foo"),
        ("foo", "bar", "foo", "bar"),
        ("foo.*.bar.*.baz", "req.$2.$1", "foo.A.bar.B.baz", "req.B.A"),
        ("foo.*.bar.*.baz", "req.{{wildcard(2)}}.{{wildcard(1)}}", "foo.A.bar.B.baz", "req.B.A"),
        ("baz.>", "my.pre.>", "baz.1.2.3", "my.pre.1.2.3"),
        ("baz.*.>", "pre.$1.>", "baz.1.2.3", "pre.1.2.3"),
        ("foo.>", ">", "foo.a.b", "a.b"),
        (">", ">", "foo.a.b", "foo.a.b"),
        ("*", "foo.bar.$1", "foo", "foo.bar.foo"),
        ("*.x", "foo.$0", "first.x", "foo.first"),
        ("*", "{{splitfromleft(1,3)}}", "12345", "123.45"),
        ("*", "{{splitfromleft(1,5)}}", "12345", "12345"),
        ("*", "{{splitfromleft(1,0)}}", "12345", "12345"),
        ("*", "{{SplitFromRight(1,3)}}", "12345", "12.345"),
        ("*", "{{SliceFromLeft(1,3)}}", "1234567890", "123.456.789.0"),
        ("*", "{{SliceFromLeft(1,5)}}", "1234567890", "12345.67890"),
        ("*", "{{SliceFromRight(1,3)}}", "1234567890", "1.234.567.890"),
        ("*", "{{SliceFromRight(1,-3)}}", "1234567890", "1234567890"),
        ("*", "{{split(1,-)}}", "-abc-def--ghi-", "abc.def.ghi"),
        ("*", "{{split(1,-)}}", "abc-def--ghi-", "abc.def.ghi"),
        ("*", "{{split(1,-)}}", "--abc", ".abc"),
        ("*", "{{split(1,)}}", "aß3", "a.ß.3"),
        ("*.*", "{{split(2,-)}}.{{splitfromleft(1,2)}}", "foo.-abc-def--ghij-", "abc.def.ghij.fo.o"),
        ("*", "{{right(1,1)}}", "1234", "4"),
        ("*", "{{right(1,3)}}", "1234", "234"),
        ("*", "{{right(1,6)}}", "1234", "1234"),
        ("*", "{{left(1,1)}}", "1234", "1"),
        ("*", "{{left(1,3)}}", "1234", "123"),
        ("*", "{{left(1,6)}}", "1234", "1234"),
        ("*", "bar.{{partition(0)}}", "baz", "bar.0"),
        ("*", "bar.{{partition(10, 0)}}", "foo", "bar.3"),
        ("*.*", "bar.{{partition(10)}}", "foo.bar", "bar.6"),
        ("*", "bar.{{partition(10)}}", "foo", "bar.3"),
        ("*", "bar.{{partition(10)}}", "baz", "bar.0"),
        ("*", "bar.{{partition(10)}}", "qux", "bar.9"),
        ("*", "bar.{{random(0)}}", "qux", "bar.0"),
        ("foo.bar", "baz.{{partition(10)}}", "foo.bar", "baz.6"),
        ("foo.bar", "baz.{{partition(10,1,2,3)}}", "foo.bar", "baz.6"),
        ("foo.baz", "qux.{{partition(10)}}", "foo.baz", "qux.4"),
        ("test.subject", "result.{{partition(5)}}", "test.subject", "result.0"),
    ] {
        assert_eq!(apply(source, destination, subject), expected, "{source} {destination} {subject}");
    }
}

#[test]
fn random_stays_below_its_ceiling_and_gets_everywhere() {
    let transform = lax("*", "bar.{{random(6)}}").unwrap().unwrap();
    let mut rng = Rng::from_u64(7);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        seen.insert(transform.apply(b"qux", &mut rng).unwrap());
    }
    let all: Vec<_> = (0..6).map(|number| format!("bar.{number}").into_bytes()).collect();
    assert!(seen.iter().eq(all.iter()), "{seen:?}");
}

#[test]
fn only_literal_subjects_that_match_are_transformed() {
    let transform = lax("foo.*", "bar.$1").unwrap().unwrap();
    let mut rng = Rng::from_u64(1);
    let mut apply = |subject: &str| transform.apply(subject.as_bytes(), &mut rng);
    assert_eq!(apply("foo.x"), Ok(b"bar.x".to_vec()));
    assert_eq!(apply("foo"), Err(TransformError::NoMatch));
    assert_eq!(apply("bar.x").unwrap_err().to_string(), "no matching transforms available");
    assert_eq!(apply("foo.*"), Err(TransformError::BadSubject));
    assert_eq!(apply("foo..x"), Err(TransformError::BadSubject));
}

#[test]
fn a_missing_token_is_empty() {
    let mut rng = Rng::from_u64(1);
    let mut transform = |destination: &str, subject: &str| {
        let transform = lax("foo.*", destination).unwrap().unwrap();
        String::from_utf8(transform.transform(subject.as_bytes(), &mut rng)).unwrap()
    };
    assert_eq!(transform("one.two.{{wildcard(1)}}", "foo"), "one.two.");
    assert_eq!(transform("one.{{left(1,2)}}", "foo"), "one.");
    assert_eq!(transform("one.{{split(1,-)}}", "foo"), "one.");
    let rest = lax("a.b.>", "c.>").unwrap().unwrap();
    assert_eq!(rest.transform(b"a", &mut rng), b"c.");
}

#[test]
fn place_holders_become_wildcards_and_back() {
    assert_eq!(replace_place_holders("bar"), ("bar".to_owned(), vec![]));
    assert_eq!(replace_place_holders("foo.$2.$1"), ("foo.*.*".to_owned(), vec!["$2", "$1"]));
    assert_eq!(
        replace_place_holders("foo.{{wildcard(2)}}.{{wildcard(1)}}"),
        ("foo.*.*".to_owned(), vec!["{{wildcard(2)}}", "{{wildcard(1)}}"])
    );
    assert_eq!(replace_place_holders("$SYS.{{wildcard()}}").1, Vec::<&str>::new());

    let transform = strict("foo.*.*", "bar.$2.{{Wildcard(1)}}").unwrap().unwrap();
    let mut rng = Rng::from_u64(1);
    let there = transform.transform(b"foo.b.a", &mut rng);
    assert_eq!(there, b"bar.a.b");
    assert_eq!(transform.reverse().unwrap().transform(&there, &mut rng), b"foo.b.a");

    let plain = strict("foo.>", "bar.>").unwrap().unwrap().reverse().unwrap();
    assert_eq!((plain.source(), plain.destination()), ("bar.>", "foo.>"));
    assert!(lax("foo.*", "bar").unwrap().unwrap().reverse().is_none());
}

#[test]
fn mappings_are_validated() {
    for (source, destination) in [
        ("bar", "foo"),
        ("foo", "foo.bar"),
        ("foo", ""),
        ("*", "{{wildcard(1)}}"),
        ("foo.>", ">"),
        ("foo.*", "bar.{{wildcard(1)}}"),
        ("foo.>", "bar.>"),
        ("foo.*.>", "bar.{{wildcard(1)}}.>"),
        ("foo.*.bar", "bar.{{wildcard(1)}}.foo"),
        ("foo.bar.>", "foo.bar.foo.>"),
        ("*", "foo.{{wildcard(1)}}"),
        ("*", "foo.{{ wildcard(1) }}"),
        ("*", "foo.{{wildcard( 1 )}}"),
        ("*", "foo.{{partition(2,1)}}"),
        ("*.*", "foo.{{SplitFromLeft(2,1)}}"),
        ("*.*", "foo.{{SplitFromRight(2,1)}}"),
        ("*", "foo.{{left(1,1)}}"),
        ("*", "foo.{{Right(1,1)}}.x"),
    ] {
        assert_eq!(validate_mapping(source, destination), Ok(()), "{source} {destination}");
    }
    let check = |source, destination, text: &str| {
        assert_eq!(validate_mapping(source, destination).unwrap_err().to_string(), text);
    };
    check("*", "foo.{{unknown(1)}}", "invalid mapping destination: unknown function in {{unknown(1)}}");
    check("*", "foo.{{ }}", "invalid mapping destination: unknown function in {{ }}");
    check("foo", "foo..}", "invalid mapping destination: invalid transform");
    check("foo.>", "foo.>.bar", "invalid mapping destination: invalid transform in bar");
    check("foo", "foo. bar}", "invalid mapping destination: invalid transform");
    check("foo", "foo.>", "invalid subject");
}
