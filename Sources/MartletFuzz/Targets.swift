internal import HTTPDelivery
internal import JSON
internal import Martlet
internal import YAML

/// What outsiders write and Martlet reads. Each target also checks what must hold of what was accepted: a broken rule ends the run as a
/// crash would.
enum Targets {
    static let all: [String: @Sendable (UnsafeRawBufferPointer) -> Void] = [
        "url": url, "event": event, "endpoint": endpoint, "metadata": metadata, "retry-after": retryAfter, "delivery": delivery,
        "yaml": yaml, "response": response, "headers": headers,
    ]

    private static func text(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }

    /// A URL that is accepted goes out as it was read, and never to a host that isn't public.
    private static func url(_ bytes: UnsafeRawBufferPointer) {
        let rules = EndpointURL.Rules(allowHTTP: true)
        guard let url = try? EndpointURL(text(bytes), rules: rules) else { return }
        let again = try? EndpointURL(url.description, rules: rules)
        precondition(
            again?.description == url.description && again?.host == url.host && again?.port == url.port, "reads differently: \(url)")
        precondition(url.description.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7f }, "control bytes: \(url)")
        if case .address(let address) = url.host { precondition(rules.addresses.allows(address), "a refused address: \(url)") }
        precondition(!url.redacted.contains("?"), "a query that isn't redacted")
    }

    /// Input: lines `name: value` as headers, an empty line, the value.
    private static func event(_ bytes: UnsafeRawBufferPointer) {
        let (headers, value) = split(bytes)
        let event = try? Event(
            headers: { body in
                for (name, value) in headers { name.withUnsafeBytes { name in value.withUnsafeBytes { body(name, $0) } } }
            }, value: value)
        guard let event else { return }
        precondition(!event.id.isEmpty && !event.source.isEmpty && !event.type.isEmpty && Identifiers.isName(event.tenant))
        // Whatever was accepted can be sent, in each format.
        let formats = Endpoint.BodyFormat.allCases
        let fanOut = FanOut(event, as: formats, at: .init(topic: "t", partition: 0, offset: 0, milliseconds: 1), registryOffset: 1)
        for format in formats {
            guard let delivery = fanOut.delivery(to: "ep_1", as: format) else { preconditionFailure("no \(format) body") }
            if format == .standard {
                let isJSON = delivery.body.withUnsafeBytes { JSONScanner.isValid($0) }
                precondition(isJSON, "a body that isn't JSON")
            }
        }
    }

    /// A record that is read is written so that it reads the same.
    private static func endpoint(_ bytes: UnsafeRawBufferPointer) {
        var registry = Registry(rules: .init())
        _ = registry.apply(offset: 1, key: Array("ep_1".utf8), value: bytes, headers: [])
        guard let json = try? JSONValue.parse(bytes), let endpoint = try? Endpoint(json: json) else { return }
        let text = endpoint.json(revealSecrets: true).text
        let again = (try? JSONValue.parse(Array(text.utf8))).flatMap { try? Endpoint(json: $0) }
        precondition(again == endpoint, "reads differently: \(text)")
        _ = PreparedEndpoint(endpoint, rules: .init(allowHTTP: true))
        _ = try? endpoint.validate(rules: .init(allowHTTP: true))
    }

    /// Input: 8 bytes of the committed offset, the text.
    private static func metadata(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= 8 else { return }
        let committed = Int64(bitPattern: bytes.loadUnaligned(as: UInt64.self)) & (1 << 48 - 1)
        guard let (metadata, _) = try? CommitMetadata.decode(text(.init(rebasing: bytes[8...])), committed: committed) else { return }
        if let completed = metadata.completed {
            precondition(completed.incomplete.allSatisfy { $0 > committed && $0 < completed.highestCompleted })
        }
        precondition(metadata.holds.count <= Hold.limit)
        let encoded = metadata.encoded(committed: committed)
        precondition(encoded.utf8.count <= CommitMetadata.lengthLimit, "\(encoded.utf8.count) bytes")
        guard let again = try? CommitMetadata.decode(encoded, committed: committed).metadata else {
            preconditionFailure("written, not read")
        }
        precondition(again.holds == metadata.holds && again.cursor == metadata.cursor)
        // A list that doesn't fit is cut where it stays true.
        if let short = again.completed, let long = metadata.completed { precondition(short.highestCompleted <= long.highestCompleted) }
    }

    private static func retryAfter(_ bytes: UnsafeRawBufferPointer) {
        let now: Int64 = 1_800_000_000_000
        guard let wait = RetryAfter.milliseconds(text(bytes), nowMilliseconds: now) else { return }
        precondition(wait >= 0 && wait <= 10_000_000_000_000 * 32, "\(wait)")
        for attempts in 1...10 {
            var generator = SeededGenerator(seed: 1)
            guard let delay = RetrySchedule.standard.delay(afterAttempts: attempts, hintMilliseconds: wait, using: &generator) else {
                continue
            }
            precondition(delay > 0 && delay <= 2 * 86_400_000, "a delay of \(delay) ms")
        }
    }

    private static func delivery(_ bytes: UnsafeRawBufferPointer) {
        let (headers, _) = split(bytes)
        let delivery = try? DeliveryHeaders { body in
            for (name, value) in headers { name.withUnsafeBytes { name in value.withUnsafeBytes { body(name, $0) } } }
        }
        guard let delivery else { return }
        let again = try? DeliveryHeaders { body in
            for (name, value) in delivery.encoded { Array(name.utf8).withUnsafeBytes { name in value.withUnsafeBytes { body(name, $0) } } }
        }
        precondition(
            again?.deliveryID == delivery.deliveryID && again?.attempt == delivery.attempt
                && again?.dueMilliseconds == delivery.dueMilliseconds)
    }

    /// Input: lines `name: value`. What goes out are these lines, one each, or none of a request that is refused.
    private static func headers(_ bytes: UnsafeRawBufferPointer) {
        var lines = HeaderLines()
        var sent: [HTTPHeader] = []
        for line in bytes.split(separator: 0x0a, maxSplits: 200) {
            let name = String(decoding: line.prefix { $0 != UInt8(ascii: ":") }, as: UTF8.self)
            // What is odd in a value may be a line's end, which the split took: it stands for one as a byte of its own.
            let value = line.dropFirst(name.utf8.count + 1).map { $0 == 0x01 ? 0x0a : $0 }
            let (count, wasSafe) = (lines.bytes.count, lines.isSafe)
            lines.append(name, String(decoding: value, as: UTF8.self))
            if lines.bytes.count == count {
                precondition(!lines.isSafe, "a line is left out, and the request goes out")
            } else {
                precondition(lines.isSafe == wasSafe)
                sent.append(HTTPHeader(name, String(decoding: value, as: UTF8.self)))
            }
        }
        precondition(lines.list.elementsEqual(sent) { $0.name == $1.name && $0.value == $1.value }, "other lines")
        let ends = lines.bytes.indices.filter { lines.bytes[$0] == 0x0a }
        precondition(ends.count == sent.count && ends.allSatisfy { lines.bytes[$0 - 1] == 0x0d }, "a line in a line")
        precondition(lines.bytes.allSatisfy { $0 >= 0x20 && $0 != 0x7f || $0 == 0x09 || $0 == 0x0d || $0 == 0x0a }, "control bytes")
    }

    /// Input: a byte that says how the rest comes in pieces, and a response with the end of its stream. In pieces it reads as it does in
    /// one; little of it is kept; and it ends, even if the stream doesn't.
    private static func response(_ bytes: UnsafeRawBufferPointer) {
        guard let seed = bytes.first else { return }
        let stream = Array(bytes.dropFirst())
        let (whole, first) = read(stream, pieces: { _ in stream.count })
        var state = UInt64(seed)
        let (split, second) = read(stream) { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33 % (seed < 128 ? 4 : 64)) + 1
        }
        precondition(first == second, "\(first ?? "-") in one, \(second ?? "-") in pieces")
        precondition(whole.status == split.status && whole.retryAfter == split.retryAfter && whole.excerpt == split.excerpt)
        precondition(whole.excerpt.count <= ResponseLimits.excerptBytes && whole.retryAfter?.utf8.count ?? 0 <= 64)
        // What lies behind the end shows in one piece only.
        precondition(!whole.mayKeep || split.mayKeep)
        // Of some only: it takes a thousand times as long.
        if seed % 8 == 0, !stream.isEmpty { endless(stream, stream.suffix(Int(seed) + 1)) }
    }

    /// A head, a body, and what chunks take besides.
    private static let mostRead = ResponseLimits.headerBytes + ResponseLimits.bodyBytes + ResponseReader.chunkOverheadBytes

    /// The stream, and then its last bytes again and again: no more is read than the caps allow.
    private static func endless(_ stream: [UInt8], _ tail: ArraySlice<UInt8>) {
        var reader = ResponseReader()
        let again = Array(repeatElement(tail, count: max(1, 4_096 / tail.count)).joined())
        var (count, piece) = (0, stream)
        while case .more = reader.read(piece.span) {
            count += piece.count
            precondition(count <= mostRead, "reads past the caps")
            piece = again
        }
    }

    /// How it ended: nil for a whole response.
    private static func read(_ stream: [UInt8], pieces: (Int) -> Int) -> (ResponseReader, String?) {
        var reader = ResponseReader()
        var at = 0
        while at < stream.count {
            let end = min(stream.count, at + max(1, pieces(at)))
            switch reader.read(stream.span.extracting(at..<end)) {
            case .more:
                at = end
                precondition(at <= mostRead, "reads past the caps")
            case .complete: return (reader, nil)
            case .failed(let kind, _): return (reader, kind.rawValue)
            }
        }
        if case .failed(let kind, _) = reader.ended() { return (reader, kind.rawValue) }
        return (reader, nil)
    }

    private static func yaml(_ bytes: UnsafeRawBufferPointer) { _ = try? YAMLDocument.parse(text(bytes)) }

    private static func split(_ bytes: UnsafeRawBufferPointer) -> (
        headers: [(name: [UInt8], value: [UInt8])], value: UnsafeRawBufferPointer?
    ) {
        var headers: [(name: [UInt8], value: [UInt8])] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            let line = rest.prefix { $0 != 0x0a }
            rest = rest.dropFirst(line.count + 1)
            if line.isEmpty { break }
            let name = line.prefix { $0 != UInt8(ascii: ":") }
            headers.append((Array(name), Array(line.dropFirst(name.count + 1).drop { $0 == 0x20 })))
        }
        // Nothing behind the headers: no value at all.
        return (headers, rest.isEmpty ? nil : UnsafeRawBufferPointer(rebasing: rest))
    }
}
