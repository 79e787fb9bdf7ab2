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
        func text(_ name: String, _ value: String?) {
            out.append(contentsOf: name.utf8)
            if let value { appendJSONString(value, to: &out) } else { out.append(contentsOf: "null".utf8) }
        }
        func number(_ name: String, _ value: Int64?) {
            out.append(contentsOf: name.utf8)
            if let value { Decimal.append(Int(value), to: &out) } else { out.append(contentsOf: "null".utf8) }
        }
        text("{\"v\":1,\"deliveryId\":", delivery.deliveryID)
        text(",\"messageId\":", messageID)
        text(",\"endpointId\":", delivery.endpointID)
        text(",\"tenant\":", delivery.tenant)
        text(",\"type\":", delivery.type)
        text(",\"url\":", url)
        number(",\"attempt\":", Int64(attempt))
        number(",\"startedMs\":", startedMilliseconds)
        let timings = result.timings
        number(",\"durationMs\":{\"total\":", timings.total / 1_000)
        number(",\"dns\":", timings.dns.map { $0 / 1_000 })
        number(",\"connect\":", timings.connect.map { $0 / 1_000 })
        number(",\"tls\":", timings.tls.map { $0 / 1_000 })
        number(",\"firstByte\":", timings.firstByte.map { $0 / 1_000 })
        number("},\"status\":", result.status.map { Int64($0) })
        let delivered = verdict == .delivered
        text(",\"outcome\":", outcome)
        text(",\"errorClass\":", delivered ? nil : (result.error?.kind ?? .status).rawValue)
        text(
            ",\"error\":", delivered ? nil : result.error.map { DeliveryHeaders.capped($0.text) } ?? result.status.map { "status \($0)" })
        text(
            ",\"responseExcerpt\":",
            excerpt.isEmpty ? nil : DeliveryHeaders.capped(String(decoding: excerpt, as: UTF8.self), bytes: Self.excerptLimitBytes))
        if case .retry(let at) = verdict { number(",\"nextAttemptMs\":", at) } else { number(",\"nextAttemptMs\":", nil) }
        if case .dead(let reason) = verdict { text(",\"deadReason\":", reason.rawValue) } else { text(",\"deadReason\":", nil) }
        text(",\"worker\":", worker)
        text(",\"traceId\":", traceID)
        out.append(UInt8(ascii: "}"))
        return out
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
