import EventLoop
import Foundation
import HTTPDelivery
import HTTPServing
import Synchronization
import TestServers
import Testing

/// Gate C, with gate R open: whatever the registry holds, refused addresses aren't dialled, on each transport.
@Suite(.serialized) struct ConnectGateTests {
    typealias Kind = TransportConformanceTests.Kind
    static let loopback = AddressPolicy(allowed: [Network("127.0.0.1")].compactMap(\.self))

    /// Refuses nothing at registration.
    static let everything = AddressPolicy(allowed: [Network("0.0.0.0/0"), Network("::/0")].compactMap(\.self))

    @Test(arguments: Kind.allCases) func allAddressesOfANameAreVetted(_ kind: Kind) throws {
        let server = try HTTPServer(.init(port: 0)) { _ in .init(200) }
        defer { server.stop() }
        let dns = DNSServer { name, _ in
            switch name.split(separator: ".").first {
            case "good": ["127.0.0.1"]
            // One address that may be reached and one that may not: the name is refused, in either order.
            case "mixed": ["127.0.0.1", "10.0.0.1"]
            case "mixed2": ["169.254.169.254", "127.0.0.1"]
            case "private": ["192.168.1.1"]
            // IPv6 answers, alone and beside an address that may be reached.
            case "mapped": ["::ffff:10.0.0.1"]
            case "nat64": ["64:ff9b::a9fe:a9fe"]
            case "link": ["fe80::1"]
            case "unique": ["127.0.0.1", "fd00::1"]
            case "metadata": ["fd00:ec2::254"]
            default: nil
            }
        }
        defer { dns.stop() }
        func result(_ name: String) throws -> HTTPResult {
            try TransportConformanceTests.send(
                kind, ["http://\(name).martlet-test.net:\(server.port)/"], addresses: Self.loopback, nameServers: "127.0.0.1:\(dns.port)")[
                    0]
        }
        #expect(try result("good").status == 200)
        for name in ["mixed", "mixed2", "private", "mapped", "nat64", "link", "unique", "metadata"] {
            let refused = try result(name)
            #expect(refused.error?.kind == .refusedAddress && refused.status == nil, "\(name): \(refused)")
        }
        #expect(try result("absent").error?.kind == .dns)
    }

    /// A name that says something else the second time: what was vetted is what is dialled, and what comes later is vetted again.
    @Test(arguments: Kind.allCases) func aNameThatChangesItsAnswer(_ kind: Kind) throws {
        let server = try HTTPServer(.init(port: 0)) { _ in .init(200, headers: [("connection", "close")]) }
        defer { server.stop() }
        let dns = DNSServer { _, number in number == 1 ? ["127.0.0.1"] : ["127.0.0.2"] }
        defer { dns.stop() }
        let url = "http://rebinds.martlet-test.net:\(server.port)/"
        let results = try TransportConformanceTests.send(
            kind, [url, url], addresses: Self.loopback, sequential: true, nameServers: "127.0.0.1:\(dns.port)")
        // Between vetting and dialling nobody is asked again; and within the time to live neither.
        #expect(results.map(\.status) == [200, 200] && dns.count("rebinds.martlet-test.net") == 1, "\(results)")
        // Asked anew, by a transport of its own: refused.
        let later = try TransportConformanceTests.send(kind, [url], addresses: Self.loopback, nameServers: "127.0.0.1:\(dns.port)")
        #expect(later[0].error?.kind == .refusedAddress)
    }

    /// A kept connection isn't used once its range is refused.
    @Test(arguments: Kind.allCases) func aKeptConnectionIsCheckedAgain(_ kind: Kind) throws {
        let server = try HTTPServer(.init(port: 0)) { _ in .init(200) }
        defer { server.stop() }
        let url = "http://127.0.0.1:\(server.port)/"
        let results = try TransportConformanceTests.send(kind, [url, url, url], addresses: Self.loopback, sequential: true) {
            transport, finished in
            if finished == 2 { transport.setAddressPolicy(AddressPolicy()) }
        }
        #expect(results.map(\.status) == [200, 200, nil] && results[2].error?.kind == .refusedAddress, "\(results)")
        #expect(results[1].timings.connect == nil)
    }

    /// The policy changes while the connection is being made: nothing is sent.
    @Test(arguments: Kind.allCases) func aPolicyThatChangesMeanwhile(_ kind: Kind) throws {
        let server = RawServer([Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".utf8)])
        defer { server.stop() }
        let result = try TransportConformanceTests.send(
            kind, ["http://127.0.0.1:\(server.port)/"], addresses: Self.loopback,
            whileWaiting: { $0.setAddressPolicy(AddressPolicy()) })[0]
        #expect(result.error?.kind == .refusedAddress && result.status == nil, "\(result)")
        #expect(server.heads.load(ordering: .relaxed) == 0)
    }

    /// Spellings of the loopback address, put past the registration's policy: each is refused. (`::ffff:127.0.0.1` isn't a URL's host at all; as
    /// a name's address it is `mapped` above.)
    @Test(
        arguments: Kind.allCases,
        ["127.0.0.1", "[::1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "169.254.169.254", "0.0.0.0", "[fe80::1]"])
    func literalsAreRefusedAtTheConnection(_ kind: Kind, _ host: String) throws {
        let server = try HTTPServer(.init(port: 0)) { _ in .init(200) }
        defer { server.stop() }
        let url = try EndpointURL("http://\(host):\(server.port)/", rules: .init(allowHTTP: true, addresses: Self.everything))
        let result = try TransportConformanceTests.send(
            kind, [url.description], addresses: AddressPolicy(), rules: .init(allowHTTP: true, addresses: Self.everything))[0]
        #expect(result.error?.kind == .refusedAddress && result.status == nil, "\(result)")
    }

    /// Proxy variables of the environment would lead requests round the gate.
    @Test(arguments: Kind.allCases) func theEnvironmentsProxyIsIgnored(_ kind: Kind) throws {
        let server = try HTTPServer(.init(port: 0)) { _ in .init(200) }
        defer { server.stop() }
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] { setenv(name, "http://127.0.0.1:1", 1) }
        defer { for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] { unsetenv(name) } }
        #expect(try TransportConformanceTests.send(kind, ["http://127.0.0.1:\(server.port)/"], addresses: Self.loopback)[0].status == 200)
    }

    /// No byte of a header can begin another one, whoever made it.
    @Test(arguments: Kind.allCases, ["a\r\nx-more: b", "a\nb", "a\u{0}b", "a\u{7f}"]) func headersCannotBreakOut(
        _ kind: Kind, _ value: String
    ) throws {
        let server = RawServer([Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".utf8)])
        defer { server.stop() }
        for header in [HTTPHeader("x-own", value), HTTPHeader("x-own\(value)", "1")] {
            let result = try TransportConformanceTests.send(kind, ["http://127.0.0.1:\(server.port)/"], headers: [header])[0]
            #expect(result.error?.kind == .protocol && result.status == nil, "\(result)")
        }
        #expect(server.connections.load(ordering: .relaxed) == 0)
    }
}
