internal import Cryptography
public import HTTPDelivery
internal import JSON

/// One attempt as it stands in `martlet.attempts`: JSON, at most 4 KiB, never a secret.
public struct AttemptRecord {
    public static let limitBytes = 4_096
    static let excerptLimitBytes = 1_024

    public var delivery: DeliveryHeaders
    /// UTF-8.
    public var messageID: [UInt8]
    public var url: String
    /// From 1.
    public var attempt: Int
    public var startedMilliseconds: Int64
    public var result: HTTPResult
    public var verdict: AttemptVerdict
    public var worker: String

    public init(
        delivery: DeliveryHeaders, messageID: [UInt8]? = nil, url: String, attempt: Int, startedMilliseconds: Int64, result: HTTPResult,
        verdict: AttemptVerdict, worker: String
    ) {
        self.messageID = messageID ?? delivery.messageIDBytes
        (self.delivery, self.url, self.attempt, self.startedMilliseconds) = (delivery, url, attempt, startedMilliseconds)
        (self.result, self.verdict, self.worker) = (result, verdict, worker)
    }

    /// Appends the record's value.
    public func append(to out: inout [UInt8]) {
        let start = out.count
        append(excerpt: result.excerpt.prefix(Self.excerptLimitBytes), to: &out)
        if out.count - start <= Self.limitBytes { return }
        out.removeSubrange(start...)
        append(excerpt: [], to: &out)
        if out.count - start <= Self.limitBytes { return }
        out.removeSubrange(start...)
        // Long attributes: what identifies the attempt stays whole.
        var short = self
        short.url = String(url.prefix(256))
        short.delivery.type = DeliveryHeaders.capped(delivery.type)
        short.delivery.traceParent = nil
        short.append(excerpt: [], to: &out)
    }

    private func append(excerpt: ArraySlice<UInt8>, to out: inout [UInt8]) {
        func text(_ name: StaticString, _ value: String?) {
            out.append(name)
            if let value { appendJSONString(value, to: &out) } else { out.append("null") }
        }
        func number(_ name: StaticString, _ value: Int64?) {
            out.append(name)
            if let value { Decimal.append(Int(value), to: &out) } else { out.append("null") }
        }
        out.append("{\"v\":1,\"deliveryId\":\"")
        delivery.texts.appendJSON(.deliveryID, to: &out)
        out.append("\",\"messageId\":\"")
        appendJSONText(messageID.span, to: &out)
        out.append("\",\"endpointId\":\"")
        delivery.texts.appendJSON(.endpointID, to: &out)
        out.append("\",\"tenant\":\"")
        delivery.texts.appendJSON(.tenant, to: &out)
        out.append("\",\"type\":\"")
        delivery.texts.appendJSON(.type, to: &out)
        text("\",\"url\":", url)
        number(",\"attempt\":", Int64(attempt))
        number(",\"startedMs\":", startedMilliseconds)
        let timings = result.timings
        number(",\"durationMs\":{\"total\":", timings.total / 1_000)
        if timings.dns == nil, timings.connect == nil, timings.tls == nil {
            out.append(",\"dns\":null,\"connect\":null,\"tls\":null")
        } else {
            number(",\"dns\":", timings.dns.map { $0 / 1_000 })
            number(",\"connect\":", timings.connect.map { $0 / 1_000 })
            number(",\"tls\":", timings.tls.map { $0 / 1_000 })
        }
        number(",\"firstByte\":", timings.firstByte.map { $0 / 1_000 })
        number("},\"status\":", result.status.map { Int64($0) })
        if verdict == .delivered {
            out.append(",\"outcome\":\"delivered\",\"errorClass\":null,\"error\":null")
        } else {
            text(",\"outcome\":", outcome)
            text(",\"errorClass\":", (result.error?.kind ?? .status).rawValue)
            text(",\"error\":", result.error.map { DeliveryHeaders.capped($0.text) } ?? result.status.map { "status \($0)" })
        }
        text(
            ",\"responseExcerpt\":",
            excerpt.isEmpty ? nil : DeliveryHeaders.capped(String(decoding: excerpt, as: UTF8.self), bytes: Self.excerptLimitBytes))
        if case .retry(let at) = verdict { number(",\"nextAttemptMs\":", at) } else { out.append(",\"nextAttemptMs\":null") }
        if case .dead(let reason) = verdict { text(",\"deadReason\":", reason.rawValue) } else { out.append(",\"deadReason\":null") }
        text(",\"worker\":", worker)
        text(",\"traceId\":", traceID)
        out.append("}")
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
