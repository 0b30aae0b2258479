use super::*;

#[test]
fn public_addresses_are_told_from_others() {
    let check = |text: &str, expected: bool| assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
    for public in
        ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "198.17.0.1"]
    {
        check(public, true);
        check(&format!("::ffff:{public}"), true);
        check(&format!("64:ff9b::{public}"), true);
        check(&format!("::{public}"), false);
    }
    for inside in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        check(inside, false);
        check(&format!("::ffff:{inside}"), false);
        check(&format!("64:ff9b::{inside}"), false);
    }
}

#[test]
fn public_addresses_of_six_are_told_from_others() {
    let check = |text: &str, expected: bool| assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
    for public in ["2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450::1", "3ffe::1"] {
        check(public, true);
    }
    for inside in [
        "::",
        "::1",
        "64:ff9b:1::808:808",
        "100::1",
        "2001::1",
        "2001:2::1",
        "2001:1ff::1",
        "2001:db8::1",
        "2002:808:808::1",
        "2002:7f00:1::1",
        "3fff::1",
        "3fff:fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "::ffff:0:7f00:1",
    ] {
        check(inside, false);
    }
}

#[test]
fn literals_are_judged_in_any_spelling() {
    let check = |url: &str, expected: bool| {
        assert_eq!(check_literal(&url.parse().unwrap()).is_ok(), expected, "{url}");
    };
    for inside in
        ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "169.254.169.254"]
    {
        check(&format!("http://{inside}:81/x"), false);
    }
    check("http://8.8.8.8/", true);
    check("http://portal.example/", true);
}

#[test]
fn a_name_keeps_its_public_addresses() {
    let socket = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
    let check = |given: &[&str], expected: Result<&[&str], &str>| {
        let found = public_of("x.example", given.iter().map(|text| socket(text)).collect());
        let expected = expected.map(|list| list.iter().map(|text| socket(text)).collect::<Vec<_>>());
        assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{given:?}");
    };
    check(&["10.0.0.1", "8.8.8.8", "::1"], Ok(&["8.8.8.8"]));
    check(&[], Ok(&[]));
    check(&["::1", "10.0.0.1"], Err("x.example has the address ::1, which is not public"));
}

#[test]
fn the_operators_host_counts_with_its_port() {
    let own = ["http://127.0.0.1:81/portal", "http://sim/", "http://[::1]:81"];
    let reach = Reach::public_and(&own.map(|url| url.parse().unwrap()));
    let check =
        |url: &str, expected: bool| assert_eq!(reach.is_own(&url.parse().unwrap()), expected, "{url}");
    check("http://127.0.0.1:81/x", true);
    check("http://127.0.0.1:82/x", false);
    check("http://127.0.0.1/x", false);
    check("http://localhost:81/x", false);
    check("http://sim/x", true);
    check("http://sim:80/x", true);
    check("http://sim:81/x", false);
    check("https://sim/x", false);
    check("http://[::1]:81/x", true);
    check("http://[::1]/x", false);
    assert!(Reach::Anywhere.is_own(&"http://127.0.0.1:1".parse().unwrap()));
}
