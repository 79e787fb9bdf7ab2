public import HTTPDelivery
internal import Cryptography
internal import WebhookSigning

/// The headers of a delivery's HTTP request.
public enum DeliveryRequest {
    public static let version = "0.1.0"
    public static let userAgent = "Martlet/\(version)"

    /// Signed for this attempt: `nowSeconds` is its `webhook-timestamp`. `bearer`: an access token.
    public static func headers(
        _ delivery: DeliveryHeaders, messageID: String? = nil, to prepared: PreparedEndpoint, body: UnsafeRawBufferPointer,
        nowSeconds: Int64, bearer: String? = nil
    ) -> HeaderLines {
        let id = messageID ?? delivery.messageID
        var lines = HeaderLines()
        lines.reserveCapacity(384 + prepared.headerLines.bytes.count)
        lines.append(Names.contentType, delivery.contentType.map(sanitized) ?? "application/octet-stream")
        lines.append(ofEveryRequest)
        lines.append(Names.id, id)
        lines.append(Names.timestamp) { Decimal.append(Int(nowSeconds), to: &$0) }
        lines.append(prepared.signatureName) {
            prepared.signer.append(id: id, timestamp: nowSeconds, body: body, to: &$0)
        }
        if prepared.endpoint.bodyFormat == .cloudEventsBinary { appendCloudEvents(delivery, to: &lines) }
        if prepared.endpoint.sendsTrace {
            if let parent = delivery.traceParent { lines.append("traceparent", sanitized(parent)) }
            if let state = delivery.traceState { lines.append("tracestate", sanitized(state)) }
        }
        lines.append(prepared.headerLines)
        if let bearer { lines.append("authorization", "Bearer " + bearer) }
        return lines
    }

    private enum Names {
        static let contentType = HeaderName("content-type")
        static let id = HeaderName("webhook-id")
        static let timestamp = HeaderName("webhook-timestamp")
    }

    private static let ofEveryRequest = HeaderLines([HTTPHeader("user-agent", userAgent)])

    private static func appendCloudEvents(_ delivery: DeliveryHeaders, to lines: inout HeaderLines) {
        let attributes: [(String, String?)] = [
            ("ce-specversion", "1.0"), ("ce-id", delivery.eventID), ("ce-source", delivery.source), ("ce-type", delivery.type),
            ("ce-time", delivery.time), ("ce-subject", delivery.subject), ("ce-tenant", delivery.tenant),
        ]
        for (name, value) in attributes { if let value { lines.append(name, percentEncoded(value)) } }
    }

    /// The CloudEvents HTTP binding: space, `"`, `%` and everything outside printable ASCII.
    static func percentEncoded(_ text: String) -> String {
        var out = ""
        for byte in text.utf8 {
            if byte > 0x20, byte < 0x7f, byte != 0x22, byte != 0x25 {
                out.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                out += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
        return out
    }

    /// Values that came with the event: no control byte can reach the wire.
    private static func sanitized(_ text: String) -> String {
        if text.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7f }) { return text }
        return String(String.UnicodeScalarView(text.unicodeScalars.filter { $0.value >= 0x20 && $0.value < 0x7f }))
    }
}
