import HTTPDelivery
import Testing

struct AddressTests {
    @Test(arguments: [
        ("1.2.3.4", "1.2.3.4"), ("::", "::"), ("::1", "::1"), ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("::ffff:127.0.0.1", "::ffff:7f00:1"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"), ("fe80::", "fe80::"),
    ])
    func reads(_ text: String, _ canonical: String) { #expect(IPAddress(text)?.description == canonical) }

    @Test(arguments: [
        "", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "0x7f.0.0.1", "1.2.3.a", "1.2.3.", ":", ":::", "1::2::3", "1:2:3:4:5:6:7",
        "12345::", "::1%eth0", "1:2:3:4:5:6:7:8:9", "::1.2.3", "+1::",
    ])
    func refusesOtherSpellings(_ text: String) { #expect(IPAddress(text) == nil) }

    @Test(arguments: [
        "0.0.0.0", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255",
        "192.0.0.1", "192.0.2.1",
        "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.1.1", "192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
        "203.0.113.1", "224.0.0.1",
        "255.255.255.255", "168.63.129.16", "::", "::1", "::ffff:7f00:1", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "fe80::1", "fc00::1",
        "ff02::1", "2001::1", "2001:db8::1",
        "3fff::1", "2002:7f00:1::", "2620:4f:8000::1",
    ])
    func refusesSpecialRanges(_ text: String) throws { #expect(!AddressPolicy().allows(try #require(IPAddress(text)))) }

    @Test(arguments: [
        "100.128.0.1", "172.32.0.1", "192.0.1.1", "168.63.129.17", "8.8.8.8", "9.255.255.255", "11.0.0.0", "2606:4700::1111", "2001:200::1",
    ])
    func allowsTheirNeighbours(_ text: String) throws { #expect(AddressPolicy().allows(try #require(IPAddress(text)))) }

    @Test func operatorsOpenAndClose() throws {
        let policy = AddressPolicy(
            allowed: [try #require(Network("127.0.0.0/8"))],
            refused: [try #require(Network("127.9.0.0/16")), try #require(Network("8.8.8.8"))])
        #expect(policy.allows(try #require(IPAddress("127.0.0.1"))))
        #expect(policy.allows(try #require(IPAddress("::ffff:127.0.0.1"))))
        #expect(!policy.allows(try #require(IPAddress("127.9.0.1"))))
        #expect(!policy.allows(try #require(IPAddress("8.8.8.8"))))
        #expect(!policy.allows(try #require(IPAddress("10.0.0.1"))))
    }

    /// NAT64 reaches IPv4: opened by an operator, what lies behind is still judged.
    @Test func behindNAT64TheIPv4AddressIsJudged() throws {
        let (good, bad) = (try #require(IPAddress("64:ff9b::8.8.8.8")), try #require(IPAddress("64:ff9b::169.254.169.254")))
        #expect(!AddressPolicy().allows(good) && !AddressPolicy().allows(bad))
        let open = AddressPolicy(allowed: [try #require(Network("64:ff9b::/96"))])
        #expect(open.allows(good) && !open.allows(bad))
    }

    @Test func theHostsOwnAddressesAreRefusedWhateverTheirRange() throws {
        let (own, mapped) = (try #require(IPAddress("8.8.8.8")), try #require(IPAddress("::ffff:8.8.8.8")))
        let policy = AddressPolicy(own: [own])
        let neighbour = try #require(IPAddress("8.8.8.9"))
        #expect(!policy.allows(own) && !policy.allows(mapped) && policy.allows(neighbour))
        #expect(AddressPolicy(allowed: [try #require(Network("8.8.8.8"))], own: [own]).allows(own))
        #expect(throws: EndpointURL.Refusal.self) { try EndpointURL("https://8.8.8.8/", rules: .init(addresses: policy)) }
        #expect(IPAddress.ofThisHost().contains(try #require(IPAddress("127.0.0.1"))))
    }

    @Test func networksInDisguiseCountAsIPv4() throws {
        let policy = AddressPolicy(refused: [try #require(Network("::ffff:8.8.8.0/120"))])
        #expect(!policy.allows(try #require(IPAddress("8.8.8.8"))))
        #expect(policy.allows(try #require(IPAddress("8.8.9.8"))))
    }

    @Test(arguments: ["1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/8/8", "x/8", "::/129", "1.2.3.4/"]) func badNetworks(_ text: String) {
        #expect(Network(text) == nil)
    }
}

struct EndpointURLTests {
    static let open = EndpointURL.Rules(allowHTTP: true)

    @Test(arguments: [
        ("https://example.com", "https://example.com/"), ("HTTPS://Example.COM:443/a?b=c", "https://example.com/a?b=c"),
        ("https://example.com.:8443/x", "https://example.com:8443/x"),
        ("https://example.com?x", "https://example.com/?x"), ("http://8.8.8.8/", "http://8.8.8.8/"),
        ("https://[2606:4700::1111]/", "https://[2606:4700::1111]/"),
        ("https://xn--mnchen-3ya.de/", "https://xn--mnchen-3ya.de/"), ("http://100.128.0.1/", "http://100.128.0.1/"),
        ("http://168.63.129.17/", "http://168.63.129.17/"),
    ])
    func accepts(_ text: String, _ canonical: String) throws { #expect(try EndpointURL(text, rules: Self.open).description == canonical) }

    @Test(arguments: [
        "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://0/", "http://[::]/",
        "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/",
        "http://[64:ff9b::a9fe:a9fe]/", "http://[fe80::1%25eth0]/", "http://169.254.43518/", "http://example.com\\@127.0.0.1/",
        "http://127.0.0.1#@example.com/",
        "http://%31%32%37.0.0.1/", "http://１２７.０.０.１/", "http:///127.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1:6379/_x", "",
        "example.com", "https:example.com",
        "https://user@example.com/", "https://user:pw@example.com/", "https://example.com/#x", "https://example.com/a b",
        "https://example.com/\n", "https://localhost/",
        "https://a.localhost/", "https://printer.local/", "https://x.internal/", "https://x.home.arpa/", "https://1.in-addr.arpa/",
        "https://x.onion/", "https://x.test/",
        "https://x.example/", "https://x.invalid/", "https://intranet/", "https://example.com:0/", "https://example.com:22/",
        "https://example.com:65536/", "https://example.com:/",
        "https://example.com:+443/", "https://-a.com/", "https://a..com/", "https://[::1/", "https://[::1]x/", "https://1.2.3.4.5/",
        "https://a.0x7f/", "https://10.0.0.1/",
    ])
    func refuses(_ text: String) { #expect(throws: EndpointURL.Refusal.self) { try EndpointURL(text, rules: Self.open) } }

    @Test func boundsLengths() {
        #expect(throws: EndpointURL.Refusal.self) {
            try EndpointURL("https://example.com/" + String(repeating: "a", count: 2_048), rules: Self.open)
        }
        #expect(throws: EndpointURL.Refusal.self) { try EndpointURL("https://\(String(repeating: "a", count: 64)).com/", rules: Self.open) }
        #expect(throws: EndpointURL.Refusal.self) {
            try EndpointURL("https://\(String(repeating: "a.", count: 126))comm/", rules: Self.open)
        }
    }

    @Test func plainHTTPNeedsPermission() {
        #expect(throws: EndpointURL.Refusal.self) { try EndpointURL("http://example.com/", rules: .init()) }
    }

    @Test func anAllowedNetworkOpensItsLiteralsAndNoOddSpelling() throws {
        let rules = EndpointURL.Rules(
            allowHTTP: true, addresses: AddressPolicy(allowed: [try #require(Network("127.0.0.0/8")), try #require(Network("::1"))]))
        #expect(try EndpointURL("http://127.0.0.1:8080/a", rules: rules).description == "http://127.0.0.1:8080/a")
        #expect(try EndpointURL("http://[::1]:8080/", rules: rules).host == .address(try #require(IPAddress("::1"))))
        for odd in [
            "http://2130706433/", "http://127.1/", "http://0x7f.0.0.1/", "http://0177.0.0.1/", "http://localhost/",
            "http://[::ffff:7f00:1]/", "http://[::ffff:127.0.0.1]/",
        ] {
            #expect(throws: EndpointURL.Refusal.self, "\(odd)") { try EndpointURL(odd, rules: rules) }
        }
    }

    @Test func redactsTheQuery() throws {
        #expect(try EndpointURL("https://example.com/a?token=secret", rules: Self.open).redacted == "https://example.com/a")
    }
}
