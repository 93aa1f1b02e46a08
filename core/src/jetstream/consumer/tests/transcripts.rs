//! What a consumer does, command by command.

use super::script::run;

macro_rules! transcript {
    ($($name:ident: $settings:literal, $stored:literal, $script:literal;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), run($settings, $stored, $script));
        })*
    };
}

transcript! {
    a_pull_request_gets_what_is_there_and_waits_for_the_rest: "", "a a", r"
        pull r.1 3; store a; ack 1; ack 2; ack 3; state; tick 100ms; state; store a; pull r.2; pull r.3; info";

    requests_take_turns: "", "", r"
        pull r.1 2; pull r.2 2; pull r.3 1; store a x5; info";

    a_request_is_refused: "max_waiting=1 max_batch=10 max_expires=10s max_bytes=100", "", r#"
        pull r.1 11; pull r.2 {"batch":1,"expires":10000000001}; pull r.3 {"max_bytes":101}; pull r.4 {;
        pull r.5 {"expires":1000000000,"idle_heartbeat":500000001}; pull r.6 {"batch":"x"};
        pull r.7 {"batch":1,"no_wait":true}; pull r.8 1; pull r.9 1;
        pull r.10 {"batch":1,"expires":10000000000,"idle_heartbeat":1000000}; pull r.11 {"batch":1,"min_pending":1};
        pull r.12 {"batch":1,"id":"x"}; pull r.13 {"batch":1,"priority":10}; info"#;

    a_push_consumer_takes_no_requests: "push=push.x", "", "pull r.1 1";

    a_request_ends: "", "a", r#"
        pull r.1 {"batch":3,"expires":2000000000,"max_bytes":1000}; tick 1s; tick 1s;
        pull r.2 {"batch":2,"no_wait":true}; store a;
        pull r.3 {"batch":2,"no_wait":true}; pull r.4 {"batch":2,"no_wait":true,"expires":3000000000}; store a; tick 3s;
        pull r.5 {"batch":2,"no_wait":true,"expires":1000000000}; tick 1s; store a;
        pull r.6 {"batch":0}; pull r.7 {"batch":-1}; store a; info; pull gone.1 2; store a; info"#;

    requests_that_take_what_is_there_are_told_if_it_is_promised: "", "", r#"
        pull r.1 {"batch":3}; configure pause=2000; store a x2; pull r.2 {"batch":1,"no_wait":true}; leave r.>;
        pull r.3 {"batch":1,"no_wait":true}"#;

    bytes_are_a_limit: "", "a a a a", r#"
        pull r.1 {"batch":10,"max_bytes":60}; pull r.2 {"batch":10,"max_bytes":50}; pull r.3 {"batch":10,"max_bytes":10};
        pull r.4 {"batch":1,"max_bytes":1000}; pull r.5 {"batch":1,"max_bytes":49}; store a"#;

    a_request_hears_that_all_is_well: "", "", r#"
        pull r.1 {"batch":3,"expires":5000000000,"idle_heartbeat":1000000000}; tick 1500ms; store a; tick 1s; tick 2500ms"#;

    what_clients_say_of_messages: "wait=10s", "a a a a a a", r#"
        listen $JS.EVENT.>; pull r.1 10; ack 1; ack 1; sync 2; nak 3; nak 4 2s; nak 5 {"delay": 3000000000}; wpi 6;
        term 6 no good; state; tick 2s; tick 1s; sync 3 +WPI; sync 3 -NAK; sync 3 rubbish; sync 4 +TERM;
        tick 20s; state"#;

    an_acknowledgement_can_ask_for_more: "", "a a a", r#"
        pull r.1 1; next 1 r.2; next 2 r.3 {"batch":2,"no_wait":true}; state; next 3 r.4 {"batch":1,"no_wait":true}"#;

    what_is_not_acknowledged_comes_again: "wait=5s max_deliver=3", "a a", r"
        listen $JS.EVENT.>; pull r.1 10; tick 5s; ack 1; tick 5s; info; tick 5s; state; info; store a; ack 3; state; ack 2; state";

    one_delivery_is_all_there_is: "wait=5s max_deliver=1", "a a", r"
        listen $JS.EVENT.>; pull r.1 10; nak 1; tick 5s; state; info";

    what_is_given_up_moves_no_floor: "wait=5s max_deliver=1", "a a a a a b", r"
        pull r.1 4; ack 1; tick 5s; tick 100ms; state; crash; state; ack 3; state; remove 2; state; pull r.2 1; ack 5; state;
        purge a; state";

    waits_grow: "backoff=1s,3s,10s max_deliver=5", "a", r"
        pull r.1 10; tick 1s; tick 2s; tick 1s; tick 9s; tick 1s; tick 10s; nak 1; state";

    no_more_is_pending_than_may_be: "max_pending=2 wait=5s", "a a a a", r#"
        pull r.1 10; pull r.2 {"batch":1,"no_wait":true}; ack 1; tick 5s; info; configure max_pending=5"#;

    one_acknowledgement_stands_for_all_before: "ack=all wait=5s", "a a a a", r"
        pull r.1 10; ack 2; state; ack 1; tick 5s; ack 4; state; info";

    nothing_has_to_be_acknowledged: "ack=none", "a a", r"
        pull r.1 2; state; ack 1; sync 2; info";

    deliver_all: "", "a b a", "pull r.1 5";
    deliver_last: "deliver=last", "a b a", "pull r.1 5; info; store b";
    deliver_last_of_a_filter: "deliver=last filter=b", "a b a", "pull r.1 5; info; store b";
    deliver_new: "deliver=new", "a b a", "info; pull r.1 5; store b; info";
    deliver_from_a_sequence: "start=2", "a b a", "info; pull r.1 5";
    deliver_from_a_sequence_to_come: "start=5", "a b a", "info; pull r.1 5; store a x3; info";
    deliver_from_a_time: "start_time=1000", "a b a", "info; pull r.1 5";
    deliver_from_a_time_to_come: "start_time=1001", "a b a", "info; pull r.1 5; store a";
    deliver_last_of_each_subject: "deliver=per_subject", "a b a c b", "
        info; pull r.1 1; store a; info; crash; info; pull r.2 10; info; remove 6; store b; info";
    the_last_of_a_subject_goes_before_it_is_delivered: "deliver=per_subject", "a b a c b", "
        remove 4; info; remove 1; info; pull r.1 10; state";

    filters_pass_some: "filter=a.*,b", "a.1 c b a.x.y a.2", r"
        info; pull r.1 10; info; store c x3; store a.3; info; state; configure filter=c; info; pull r.2 10; store c; info";

    a_subscriber_gets_what_there_is_while_it_listens: "push=push.x heartbeat=1s", "a a", r"
        info; store a; leave push.x; store a; info; tick 2s; listen push.>; info; listen push.x; tick 1s; ack 1; ack 2; ack 3; ack 4; state";

    a_queue_group_gets_what_there_is: "push=d group=q", "a", r"
        listen d; info; listen d q; info; leave d; store a";

    messages_go_elsewhere: "push=push.x wait=5s", "a a", r"
        ack 1; configure push=push.y; store a; tick 5s";

    a_subscriber_is_asked_whether_it_keeps_up: "push=push.x flow_control heartbeat=1s ack=flow max_pending=3", "a a a a a", r"
        tick 1s; state; answer wrong; answer fc Nats-Last-Consumer: 2|Nats-Last-Stream: 2; state; tick 1s;
        answer fc; tick 1s; answer fc Nats-Last-Consumer: 99|Nats-Last-Stream: 99; state";

    payloads_are_left_out: "headers_only", "a", "pull r.1 1";

    some_acknowledgements_are_published: "sample=100%", "a a", r"
        listen $JS.EVENT.METRIC.>; pull r.1 2; tick 10ms; ack 1; term 2";

    a_paused_consumer_waits: "pause=1002", "a", r#"
        listen $JS.EVENT.>; info; pull r.1 1; pull r.2 {"batch":1,"no_wait":true}; tick 2s; info; configure pause=1005;
        store a; pull r.3 2; ack 1; tick 1s; configure pause; store a"#;

    a_rate_is_kept: "rate=400", "a a a a a a a a a a a a a a a a a a a a a a a a a a", r"
        pull r.1 30; tick 900ms; tick 100ms; tick 1s";

    messages_come_as_they_were_stored: "original", "a", r"
        tick 2s; store a; tick 500ms; store a x2; pull r.1 10; tick 1999ms; tick 1ms; tick 500ms; store a";

    a_stream_hears_what_is_acknowledged: "workqueue wait=5s max_deliver=2", "a a a a", r"
        hold; pull r.1 10; ack 1; needs 1 a; needs 2 a; needs 9 a; commit; needs 1 a; sync 2; term 3; tick 5s; tick 5s;
        needs 4 a; state; ack 4; needs 4 a";

    a_stream_hears_what_is_delivered: "interest ack=none filter=a", "a b a", r"
        needs 2 b; needs 1 a; pull r.1 2; needs 1 a";

    a_run_is_told_one_by_one: "interest ack=all", "a a a", "pull r.1 3; ack 2; needs 2 a; needs 3 a";

    answers_wait_for_the_disk: "", "a a a", r"
        pull r.1 3; hold; sync 1; sync 1; ack 2; commit; sync 2; state";

    a_refused_entry_is_said_again: "", "a a a", r"
        tick 1s; pull r.1 3; refuse; sync 1; ack 2; tick 1s; state; commit; sync 3; state; tick 250ms; state";

    a_consumer_in_memory_keeps_nothing: "memory workqueue", "a a", r"
        hold; pull r.1 2; sync 1; needs 1 a; state";

    a_crash_costs_deliveries_and_no_messages: "wait=5s", "a a a a", r"
        pull r.1 2; tick 1s; ack 1; hold; pull r.2 1; ack 2; crash; commit; state; pull r.3 10; tick 4s; state; info";

    what_is_gone_is_not_pending: "wait=5s", "a a a a a a", r"
        listen $JS.EVENT.>; pull r.1 4; remove 2; remove 6; info; tick 5s; pull r.2 1; info; hold; remove 3; crash; commit; state";

    a_purge_takes_all: "", "a b a b a", r"
        pull r.1 2; purge; state; info; store a; info";
    a_purge_keeps_some: "", "a b a b a", r"
        pull r.1 3; ack 1; purge keep 3; state; info; pull r.2 5";
    a_purge_of_other_subjects: "filter=a", "a b a b a", r"
        pull r.1 2; purge b; state; info; purge a keep 1; state; info";
    a_purge_of_some_subjects: "", "a b a b a", r"
        pull r.1 3; purge a keep 1; state; info; pull r.2 5";
    a_purge_of_one_of_two_filters: "filter=a,b", "a b a b a", r"
        pull r.1 1; purge a; state; info; pull r.2 5";

    a_consumer_starts_anew: "wait=5s", "a a a a", r"
        pull r.1 3; ack 1; reset 0; info; pull r.2 1; reset 1; state; pull r.3 9; crash; state";
    a_consumer_starts_where_it_may: "start=2", "a a a", "reset 1; reset 3; info";
    a_new_one_does_not_start_anew: "deliver=new", "a a a", "reset 1; reset 0";

    an_unused_consumer_goes: "threshold=5s", "a", r#"
        tick 4s; pull r.1 {"batch":5,"expires":1000000000}; tick 5s; ack 1; tick 5s; tick 1s"#;
    a_request_that_takes_what_is_there_does_not_wait_for_ever: "threshold=5s max_pending=1", "a a", r#"
        pull r.1 1; pull r.2 {"batch":1,"no_wait":true}; tick 4s; tick 2s"#;
    a_consumer_at_work_stays: "threshold=5s wait=20s", "a", "pull r.1; tick 10s; tick 14s; tick 2s";
    a_push_consumer_without_subscriber_goes: "push=push.x threshold=5s", "a", r"
        tick 10s; leave push.x; tick 4s; listen push.x; tick 10s; leave push.x; tick 5s";

    those_who_wait_are_told: "", "", r#"
        pull r.1 5; pull r.2 {"batch":3,"max_bytes":100}; shutdown; pull r.3 1; delete"#;

    requests_for_an_overflow: "priority=overflow", "", r#"
        pull r.0 {"batch":1,"group":"h"}; pull r.1 1; pull r.2 {"batch":1}; pull r.3 {"batch":2,"group":"g","min_pending":3};
        pull r.4 {"batch":5,"group":"g","min_ack_pending":4}; store a; store a x3; store a x5; info; ack 1; store a"#;

    requests_in_order_of_priority: "priority=prioritized", "", r#"
        pull r.1 {"batch":1,"group":"g","priority":9}; pull r.2 {"batch":2,"group":"g","priority":1};
        pull r.3 {"batch":1,"group":"g","priority":1}; pull r.4 1; store a x5"#;

    a_client_that_cannot_take_it_is_not_pinned: "priority=pinned", "a", r#"
        pull r.1 {"batch":1,"group":"g","max_bytes":10}; info; pull r.2 {"batch":5,"group":"g","max_bytes":60}; store a; info"#;

    one_client_is_pinned: "priority=pinned", "", r#"
        listen $JS.EVENT.>; pull r.1 {"batch":1,"group":"g"}; pull r.2 {"batch":2,"group":"g"}; store a x2;
        pull r.3 {"batch":1,"group":"g","id":"wrong"}; info; tick 10s; info; pull r.4 {"batch":1,"group":"g","id":"old"};
        store a; unpin; store a"#;
}
