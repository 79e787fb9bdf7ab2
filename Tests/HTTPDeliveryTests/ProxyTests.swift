import Foundation
import HTTPDelivery
import HTTPServing
import Synchronization
import Testing

/// Requests through a proxy: it resolves and reaches the receiver, whatever this machine knows of it.
@Suite(.serialized) struct ProxyTests {
    @Test(arguments: [
        "", "proxy:3128", "https://proxy:3128", "http://proxy", "http://proxy:0", "http://proxy:70000", "socks4://p:1", "http://a b:1",
        "http://proxy:3128/path", "http://u:p@w@proxy:3128", "http://u:p/w@proxy:3128", "http://::1:3128", "http://[1.2.3.4]:3128",
    ]) func otherForms(_ text: String) {
        #expect(throws: EgressProxy.Malformed.self) { try EgressProxy(text) }
    }

    /// An IPv6 literal in brackets; nobody listens there, and that is what is said.
    @Test(arguments: TransportConformanceTests.Kind.allCases) func ipv6Literals(_ kind: TransportConformanceTests.Kind) throws {
        let gone = RawServer([[]])
        gone.stop()
        let result = try TransportConformanceTests.send(
            kind, ["http://receiver.martlet-test.net/"], proxy: try EgressProxy("http://[::1]:\(gone.port)"))[0]
        #expect(result.error?.kind == .connect, "\(result)")
    }

    /// The request's own name never resolves here: only the proxy can have reached it. What isn't a number is its affair; what is one is
    /// still refused here.
    @Test(arguments: TransportConformanceTests.Kind.allCases) func goesThroughTheProxy(_ kind: TransportConformanceTests.Kind) throws {
        let proxy = RawServer(
            [Array("HTTP/1.1 200 Connected\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n".utf8)], after: .keep)
        defer { proxy.stop() }
        let settings = try EgressProxy("http://127.0.0.1:\(proxy.port)")
        let results = try TransportConformanceTests.send(
            kind, ["http://receiver.martlet-test.net/hook"], timeouts: Timeouts(connectMilliseconds: 1_000, totalMilliseconds: 1_500),
            addresses: AddressPolicy(), proxy: settings)
        #expect(results[0].status == 204, "\(results[0])")
        #expect(proxy.connections.load(ordering: .relaxed) == 1)
        let refused = try TransportConformanceTests.send(
            kind, ["http://127.0.0.1:8080/"], addresses: AddressPolicy(), proxy: settings)[0]
        #expect(refused.error?.kind == .refusedAddress && proxy.connections.load(ordering: .relaxed) == 1)
    }

    @Test(arguments: TransportConformanceTests.Kind.allCases) func aProxyThatRefuses(_ kind: TransportConformanceTests.Kind) throws {
        let proxy = RawServer([Array("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".utf8)])
        defer { proxy.stop() }
        let refused = try TransportConformanceTests.send(
            kind, ["http://receiver.martlet-test.net/"], proxy: try EgressProxy("http://127.0.0.1:\(proxy.port)"))[0]
        #expect(refused.error?.kind == .connect && refused.error?.text.contains("403") == true && refused.status == nil, "\(refused)")
        let gone = RawServer([[]])
        gone.stop()
        let absent = try TransportConformanceTests.send(
            kind, ["http://receiver.martlet-test.net/"], proxy: try EgressProxy("socks5://127.0.0.1:\(gone.port)"))[0]
        #expect(absent.error?.kind == .connect, "\(absent)")
    }

    /// TLS is spoken with the receiver, through the tunnel, and its certificate is held against the receiver's name; the proxy's password is the
    /// proxy's alone.
    @Test(arguments: TransportConformanceTests.Kind.allCases, ["http", "socks5"]) func tlsGoesThroughTheProxy(
        _ kind: TransportConformanceTests.Kind, _ scheme: String
    ) throws {
        let servers = try TLSServers()
        defer { servers.stop() }
        let place = "127.0.0.1:\(servers.ports[scheme == "http" ? "http-proxy" : "socks-proxy"] ?? 0)"
        func send(_ url: String, _ userInfo: String, bundle: String = servers.file("trusted.pem")) throws -> HTTPResult {
            try TransportConformanceTests.send(kind, [url], bundle: bundle, proxy: try EgressProxy("\(scheme)://\(userInfo)\(place)"))[0]
        }
        let url = "https://receiver.martlet-test.net/hook"
        let delivered = try send(url, "user:pass@")
        #expect(delivered.status == 200 && String(decoding: delivered.excerpt, as: UTF8.self).hasSuffix("TLSv1.3"), "\(delivered)")
        // Another name than the certificate's, and an authority that nobody trusts here.
        #expect(try send("https://other.martlet-test.net/hook", "user:pass@").error?.kind == .tls)
        #expect(try send(url, "user:pass@", bundle: "/etc/ssl/certs/ca-certificates.crt").error?.kind == .tls)
        for wrong in ["user:hunter2@", ""] {
            let refused = try send(url, wrong)
            #expect(refused.error?.kind == .connect && refused.status == nil, "\(refused)")
            #expect(refused.error?.text.contains("hunter2") == false)
        }
    }

    /// SOCKS5 as RFC 1928 has it, with the name left to the proxy.
    @Test(arguments: TransportConformanceTests.Kind.allCases) func speaksSOCKS5(_ kind: TransportConformanceTests.Kind) throws {
        let server = SOCKSServer(answer: Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".utf8))
        defer { server.stop() }
        let result = try TransportConformanceTests.send(
            kind, ["http://receiver.martlet-test.net:8080/"], proxy: try EgressProxy("socks5://127.0.0.1:\(server.port)"))[0]
        #expect(result.status == 200, "\(result)")
        #expect(server.asked == "receiver.martlet-test.net:8080")
    }
}
