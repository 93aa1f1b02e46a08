//! What a consumer does, command by command.

use super::script::run;

#[test]
fn a_pull_request_gets_what_is_there_and_waits_for_the_rest() {
    insta::assert_snapshot!(run(
        "",
        "a a",
        "
        pull r.1 3; store a; ack 1; ack 2; ack 3; state; tick 100ms; state; store a; pull r.2; pull r.3"
    ));
}
