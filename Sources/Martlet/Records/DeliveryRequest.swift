public import HTTPDelivery
internal import WebhookSigning

/// The headers of a delivery's HTTP request.
public enum DeliveryRequest {
    public static let version = "0.1.0"
    public static let userAgent = "Martlet/\(version)"

    /// Signed for this attempt: `nowSeconds` is its `webhook-timestamp`.
    public static func headers(
        _ delivery: DeliveryHeaders, to prepared: PreparedEndpoint, body: UnsafeRawBufferPointer, nowSeconds: Int64
    ) -> [HTTPHeader] {
        let id = delivery.messageID
        var headers = [
            HTTPHeader("content-type", delivery.contentType.map(sanitized) ?? "application/octet-stream"),
            HTTPHeader("user-agent", userAgent),
            HTTPHeader("webhook-id", id), HTTPHeader("webhook-timestamp", String(nowSeconds)),
            HTTPHeader(prepared.signer.scheme.headerName, prepared.signer.signature(id: id, timestamp: nowSeconds, body: body)),
        ]
        if prepared.endpoint.bodyFormat == .cloudEventsBinary { headers += cloudEvents(delivery) }
        if prepared.endpoint.sendsTrace {
            if let parent = delivery.traceParent { headers.append(HTTPHeader("traceparent", sanitized(parent))) }
            if let state = delivery.traceState { headers.append(HTTPHeader("tracestate", sanitized(state))) }
        }
        return headers + prepared.headers
    }

    private static func cloudEvents(_ delivery: DeliveryHeaders) -> [HTTPHeader] {
        let attributes: [(String, String?)] = [
            ("ce-specversion", "1.0"), ("ce-id", delivery.eventID), ("ce-source", delivery.source), ("ce-type", delivery.type),
            ("ce-time", delivery.time), ("ce-subject", delivery.subject), ("ce-tenant", delivery.tenant),
        ]
        return attributes.compactMap { name, value in value.map { HTTPHeader(name, percentEncoded($0)) } }
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
