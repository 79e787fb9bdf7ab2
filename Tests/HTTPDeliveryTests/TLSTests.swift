import Cryptography
import EventLoop
import Foundation
@testable import HTTPDelivery
import Testing

/// Servers with certificates of every kind, made when they are needed.
final class TLSServers {
    private let process = Process()
    private let input = Pipe()
    let directory: URL
    private(set) var ports: [String: Int] = [:]

    init() throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-tls-\(UInt32.random(in: 0 ... .max))")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        let script = try #require(Bundle.module.url(forResource: "tls_servers", withExtension: "py", subdirectory: "Support"))
        process.arguments = ["python3", script.path, directory.path]
        let output = Pipe()
        (process.standardInput, process.standardOutput) = (input, output)
        try process.run()
        var text = ""
        while !text.contains("ready\n") {
            let data = output.fileHandleForReading.availableData
            try #require(!data.isEmpty, "the servers ended: \(text)")
            text += String(decoding: data, as: UTF8.self)
        }
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 2 { ports[String(words[0])] = Int(words[1]) }
        }
    }

    func url(_ name: String, _ path: String = "/") -> String { "https://127.0.0.1:\(ports[name] ?? 0)\(path)" }
    func file(_ name: String) -> String { directory.appendingPathComponent(name).path }
    func bytes(_ name: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: file(name)))) }

    func stop() {
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
        try? FileManager.default.removeItem(at: directory)
    }
}

/// Each case of TLS on each transport: what is wrong is refused, whatever else is right.
@Suite(.serialized) struct TLSTests {
    typealias Kind = TransportConformanceTests.Kind

    private func send(
        _ kind: Kind, _ urls: [String], bundle: String = "/etc/ssl/certs/ca-certificates.crt", extra: String? = nil,
        tls: [TLSIdentity?] = [nil]
    ) throws -> [HTTPResult] {
        try TransportConformanceTests.send(kind, urls, sequential: true, bundle: bundle, extra: extra, tls: tls)
    }

    /// Of many records: the first holds the head too, and more go out than the socket takes at once.
    @Test(arguments: Kind.allCases, [100_000, 4_000_000]) func largeBodies(_ kind: Kind, _ count: Int) throws {
        let servers = try TLSServers()
        defer { servers.stop() }
        let body = String(decoding: (0..<count).map { UInt8(ascii: "a") + UInt8($0 % 23) }, as: UTF8.self)
        let results = try TransportConformanceTests.send(
            kind, Array(repeating: servers.url("good", "/digest"), count: 2), body: body,
            timeouts: Timeouts(connectMilliseconds: 5_000, totalMilliseconds: 30_000), sequential: true, bundle: servers.file("trusted.pem")
        )
        let digest = Hex.encode(SHA256.digest(Array(body.utf8)))
        for result in results { #expect(result.status == 200 && excerpt(result) == "\(count) \(digest)", "\(result)") }
    }

    private func excerpt(_ result: HTTPResult) -> String { String(decoding: result.excerpt, as: UTF8.self) }

    @Test(arguments: Kind.allCases) func certificatesAreChecked(_ kind: Kind) throws {
        let servers = try TLSServers()
        defer { servers.stop() }
        let trusted = servers.file("trusted.pem")
        for name in ["expired", "wrong-name", "self-signed", "unknown-authority", "tls-1.0"] {
            let result = try send(kind, [servers.url(name)], bundle: trusted)[0]
            #expect(result.error?.kind == .tls && result.status == nil, "\(name): \(result)")
        }
        for (name, version) in [("good", "TLSv1.3"), ("tls-1.2", "TLSv1.2")] {
            let result = try send(kind, [servers.url(name)], bundle: trusted)[0]
            #expect(result.status == 200 && excerpt(result).hasSuffix(version) && result.timings.tls != nil, "\(name): \(result)")
        }
        // Only the system's authorities: nobody here is trusted.
        #expect(try send(kind, [servers.url("good")])[0].error?.kind == .tls)
    }

    @Test(arguments: Kind.allCases) func authoritiesAreAddedPerDeploymentAndPerEndpoint(_ kind: Kind) throws {
        let servers = try TLSServers()
        defer { servers.stop() }
        let (trusted, unknown) = (servers.file("trusted.pem"), TLSIdentity(authorities: try servers.bytes("unknown.pem")))
        // The deployment's own, besides the bundle.
        #expect(try send(kind, [servers.url("good")], extra: trusted)[0].status == 200)
        // An endpoint's, besides the deployment's: both are trusted for it, and for it alone.
        let urls = ["unknown-authority", "good", "unknown-authority", "good", "unknown-authority"].map { servers.url($0) }
        let results = try send(kind, urls, bundle: trusted, tls: [unknown, unknown, nil, nil, unknown])
        #expect(results.map(\.status) == [200, 200, nil, 200, 200], "\(results)")
        // A connection that one identity opened isn't used for another.
        #expect(results[2].error?.kind == .tls)
    }

    /// The bundle is read once: it is gone by the time of the next handshake, which another server asks for.
    @Test(arguments: Kind.allCases) func theBundleIsReadOnce(_ kind: Kind) throws {
        let servers = try TLSServers()
        defer { servers.stop() }
        let bundle = servers.file("trusted.pem")
        let results = try TransportConformanceTests.send(
            kind, [servers.url("good", "/close"), servers.url("tls-1.2", "/close")], sequential: true, bundle: bundle,
            between: { _, finished in if finished == 1 { try? FileManager.default.removeItem(atPath: bundle) } })
        #expect(!FileManager.default.fileExists(atPath: bundle))
        #expect(results.map(\.status) == [200, 200], "\(results)")
    }

    @Test(arguments: Kind.allCases) func clientCertificates(_ kind: Kind) throws {
        let servers = try TLSServers()
        defer { servers.stop() }
        let trusted = servers.file("trusted.pem")
        let own = TLSIdentity(certificate: try servers.bytes("client.pem"), key: try servers.bytes("client.key"))
        for name in ["client-certificate", "client-certificate-1.2"] {
            let results = try send(kind, [servers.url(name), servers.url(name), servers.url(name)], bundle: trusted, tls: [own, nil, own])
            #expect(results[0].status == 200 && excerpt(results[0]).hasPrefix("client "), "\(name): \(results[0])")
            // With TLS 1.3 the server says no only after the handshake: its alert and its close race with our request.
            let refusals: [ErrorClass?] = name.hasSuffix("1.2") ? [.tls] : [.tls, .reset]
            #expect(results[1].status == nil && refusals.contains(results[1].error?.kind), "\(name): \(results[1])")
            #expect(results[2].status == 200)
        }
    }

    /// Messages that are no content, without end: the request ends at its bound, and a neighbour doesn't notice.
    @Test(arguments: Kind.allCases) func aFloodOfTickets(_ kind: Kind) throws {
        let servers = try TLSServers()
        defer { servers.stop() }
        for name in ["tickets", "tickets-between"] {
            let results = try TransportConformanceTests.send(
                kind, [servers.url(name)] + Array(repeating: servers.url("good"), count: 5),
                timeouts: Timeouts(connectMilliseconds: 1_000, totalMilliseconds: 1_500), bundle: servers.file("trusted.pem"))
            #expect(results[0].error?.kind == (kind == .direct ? .tooLarge : .timeout), "\(name): \(results[0])")
            #expect(results[0].timings.total < 2_500_000)
            #expect(results.dropFirst().allSatisfy { $0.status == 200 && $0.timings.total < 1_400_000 }, "\(name): \(results.dropFirst())")
        }
    }

    @Test(arguments: Kind.allCases) func sessionsAreResumed(_ kind: Kind) throws {
        let servers = try TLSServers()
        defer { servers.stop() }
        let urls = Array(repeating: servers.url("good", "/close"), count: 3)
        let results = try send(kind, urls, bundle: servers.file("trusted.pem"))
        #expect(results.map(\.status) == [200, 200, 200])
        #expect(excerpt(results[0]).contains("full") && excerpt(results[1]).contains("resumed"), "\(results.map(excerpt))")
    }
}

/// Of the connections over TLS only so many keep OpenSSL's buffers while they are idle, which bounds the memory of all.
struct TLSBufferTests {
    @Test func onlySoManyStreamsKeepTheirBuffers() throws {
        let limit = TLSContexts.bufferedStreamLimit
        var contexts: TLSContexts? = TLSContexts(TrustStores(bundlePath: "/etc/ssl/certs/ca-certificates.crt", extraPath: nil))
        let url = try EndpointURL("https://example.com/", rules: .init())
        let origin = Origin(isTLS: true, host: url.host, port: url.port, identity: nil)
        func streams(_ count: Int) throws -> [TLSStream] {
            try (0..<count).compactMap { _ in try contexts?.stream(-1, url, origin, nil) }
        }
        var open = try streams(limit + 88)
        #expect(open.count { $0.keepsBuffers } == limit && open.prefix(limit).allSatisfy(\.keepsBuffers))
        // Those that come for others that have ended take their places, however many are open.
        open.removeFirst(100)
        open += try streams(100)
        #expect(open.count { $0.keepsBuffers } == limit)
        open = []
        open = try streams(1)
        #expect(open[0].keepsBuffers && contexts?.bufferedStreams == 1)
        // A stream may end last.
        contexts = nil
        open = []
    }
}
