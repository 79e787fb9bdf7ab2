public import HTTPDelivery
internal import Cryptography
internal import WebhookSigning

/// The headers of a delivery's HTTP request.
public enum DeliveryRequest {
    public static let version = "0.1.0"
    public static let userAgent = "Martlet/\(version)"

    /// Signed for this attempt: `nowSeconds` is its `webhook-timestamp`. `messageID`: the delivery's, where it is known already, as UTF-8.
    /// `bearer`: an access token. `lines`: none yet, but perhaps with memory.
    public static func headers(
        _ delivery: DeliveryHeaders, messageID: [UInt8]? = nil, to prepared: PreparedEndpoint, body: UnsafeRawBufferPointer,
        nowSeconds: Int64, bearer: String? = nil, in lines: consuming HeaderLines = HeaderLines()
    ) -> HeaderLines {
        let id = messageID ?? delivery.messageIDBytes
        lines.reserveCapacity(288 + prepared.headerLines.bytes.count)
        lines.append(Names.contentType) { out in
            let start = out.count
            if !delivery.texts.append(.contentType, to: &out) { out.append("application/octet-stream") }
            sanitize(&out, from: start)
        }
        lines.append(ofEveryRequest)
        lines.append(Names.id) { $0.append(contentsOf: id) }
        lines.append(Names.timestamp) { Decimal.append(Int(nowSeconds), to: &$0) }
        lines.append(prepared.signatureName) {
            prepared.signer.append(id: id[...], timestamp: nowSeconds, body: body, to: &$0)
        }
        if prepared.bodyFormat == .cloudEventsBinary { appendCloudEvents(delivery, to: &lines) }
        if prepared.sendsTrace {
            for field in [HeaderField.traceParent, .traceState] where delivery.texts.has(field) {
                lines.append(HeaderName("\(field.name)")) { out in
                    let start = out.count
                    delivery.texts.append(field, to: &out)
                    sanitize(&out, from: start)
                }
            }
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

    /// Values that came with the event: what isn't printable ASCII is left out.
    private static func sanitize(_ out: inout [UInt8], from start: Int) {
        let isClean = out.withUnsafeBufferPointer { bytes in
            var odd = false
            for byte in bytes[start...] { odd = odd || byte < 0x20 || byte >= 0x7f }
            return !odd
        }
        guard !isClean else { return }
        let rest = out[start...].filter { $0 >= 0x20 && $0 < 0x7f }
        out.replaceSubrange(start..., with: rest)
    }
}
