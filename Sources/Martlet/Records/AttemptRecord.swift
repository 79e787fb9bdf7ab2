internal import Cryptography
public import HTTPDelivery
internal import JSON

/// One attempt as it stands in `martlet.attempts`: JSON, at most 4 KiB, never a secret.
public struct AttemptRecord {
    public static let limitBytes = 4_096
    static let excerptLimitBytes = 1_024

    public var delivery: DeliveryHeaders
    public var messageID: String
    public var url: String
    /// From 1.
    public var attempt: Int
    public var startedMilliseconds: Int64
    public var result: HTTPResult
    public var verdict: AttemptVerdict
    public var worker: String

    public init(
        delivery: DeliveryHeaders, messageID: String? = nil, url: String, attempt: Int, startedMilliseconds: Int64, result: HTTPResult,
        verdict: AttemptVerdict, worker: String
    ) {
        self.messageID = messageID ?? delivery.messageID
        (self.delivery, self.url, self.attempt, self.startedMilliseconds) = (delivery, url, attempt, startedMilliseconds)
        (self.result, self.verdict, self.worker) = (result, verdict, worker)
    }

    public var encoded: [UInt8] {
        let whole = encode(excerpt: result.excerpt.prefix(Self.excerptLimitBytes))
        if whole.count <= Self.limitBytes { return whole }
        let without = encode(excerpt: [])
        if without.count <= Self.limitBytes { return without }
        // Long attributes: what identifies the attempt stays whole.
        var short = self
        short.url = String(url.prefix(256))
        short.delivery.type = DeliveryHeaders.capped(delivery.type)
        short.delivery.traceParent = nil
        return short.encode(excerpt: [])
    }

    private func encode(excerpt: ArraySlice<UInt8>) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(1_024)
        func text(_ name: [UInt8], _ value: String?) {
            out.append(contentsOf: name)
            if let value { appendJSONString(value, to: &out) } else { out.append(contentsOf: Key.null) }
        }
        func number(_ name: [UInt8], _ value: Int64?) {
            out.append(contentsOf: name)
            if let value { Decimal.append(Int(value), to: &out) } else { out.append(contentsOf: Key.null) }
        }
        text(Key.deliveryId, delivery.deliveryID)
        text(Key.messageId, messageID)
        text(Key.endpointId, delivery.endpointID)
        text(Key.tenant, delivery.tenant)
        text(Key.type, delivery.type)
        text(Key.url, url)
        number(Key.attempt, Int64(attempt))
        number(Key.startedMs, startedMilliseconds)
        let timings = result.timings
        number(Key.duration, timings.total / 1_000)
        number(Key.dns, timings.dns.map { $0 / 1_000 })
        number(Key.connect, timings.connect.map { $0 / 1_000 })
        number(Key.tls, timings.tls.map { $0 / 1_000 })
        number(Key.firstByte, timings.firstByte.map { $0 / 1_000 })
        number(Key.status, result.status.map { Int64($0) })
        let delivered = verdict == .delivered
        text(Key.outcome, outcome)
        text(Key.errorClass, delivered ? nil : (result.error?.kind ?? .status).rawValue)
        text(
            Key.error, delivered ? nil : result.error.map { DeliveryHeaders.capped($0.text) } ?? result.status.map { "status \($0)" })
        text(
            Key.responseExcerpt,
            excerpt.isEmpty ? nil : DeliveryHeaders.capped(String(decoding: excerpt, as: UTF8.self), bytes: Self.excerptLimitBytes))
        if case .retry(let at) = verdict { number(Key.nextAttemptMs, at) } else { number(Key.nextAttemptMs, nil) }
        if case .dead(let reason) = verdict { text(Key.deadReason, reason.rawValue) } else { text(Key.deadReason, nil) }
        text(Key.worker, worker)
        text(Key.traceId, traceID)
        out.append(UInt8(ascii: "}"))
        return out
    }

    /// With all that stands before the value. Arrays: appending one is a copy, where a string's bytes are asked for one by one.
    private enum Key {
        static let null = Array("null".utf8)
        static let deliveryId = Array("{\"v\":1,\"deliveryId\":".utf8)
        static let messageId = Array(",\"messageId\":".utf8)
        static let endpointId = Array(",\"endpointId\":".utf8)
        static let tenant = Array(",\"tenant\":".utf8)
        static let type = Array(",\"type\":".utf8)
        static let url = Array(",\"url\":".utf8)
        static let attempt = Array(",\"attempt\":".utf8)
        static let startedMs = Array(",\"startedMs\":".utf8)
        static let duration = Array(",\"durationMs\":{\"total\":".utf8)
        static let dns = Array(",\"dns\":".utf8)
        static let connect = Array(",\"connect\":".utf8)
        static let tls = Array(",\"tls\":".utf8)
        static let firstByte = Array(",\"firstByte\":".utf8)
        static let status = Array("},\"status\":".utf8)
        static let outcome = Array(",\"outcome\":".utf8)
        static let errorClass = Array(",\"errorClass\":".utf8)
        static let error = Array(",\"error\":".utf8)
        static let responseExcerpt = Array(",\"responseExcerpt\":".utf8)
        static let nextAttemptMs = Array(",\"nextAttemptMs\":".utf8)
        static let deadReason = Array(",\"deadReason\":".utf8)
        static let worker = Array(",\"worker\":".utf8)
        static let traceId = Array(",\"traceId\":".utf8)
    }

    private var outcome: String {
        switch verdict {
        case .delivered: "delivered"
        case .retry: "retry"
        case .dead: "dead"
        }
    }

    /// The second field of `traceparent` (W3C Trace Context).
    private var traceID: String? {
        guard let parent = delivery.traceParent else { return nil }
        let fields = parent.split(separator: "-")
        return fields.count == 4 && fields[1].utf8.count == 32 ? String(fields[1]) : nil
    }
}
