internal import Cryptography
internal import JSON

/// Composes the exact bytes of a delivery's HTTP body, once, at fan-out. JSON data is never serialised again: numbers, key order and
/// escapes arrive as sent.
public enum BodyComposer {
    public struct Body: Sendable, Equatable {
        public var bytes: [UInt8]
        /// Of the HTTP request.
        public var contentType: String?
    }

    /// `acceptedMilliseconds`: the event record's timestamp, used when the event has no time of its own.
    static func compose(
        _ texts: HeaderTexts, _ data: UnsafeRawBufferPointer?, as format: Endpoint.BodyFormat, acceptedMilliseconds: Int64
    ) -> Body {
        switch format {
        case .standard: Body(bytes: standard(texts, data, acceptedMilliseconds), contentType: "application/json")
        case .raw, .cloudEventsBinary: Body(bytes: data.map { Array($0) } ?? [], contentType: texts[.contentType])
        case .cloudEventsStructured:
            Body(bytes: structured(texts, data), contentType: "application/cloudevents+json; charset=utf-8")
        }
    }

    private static func standard(_ texts: HeaderTexts, _ data: UnsafeRawBufferPointer?, _ accepted: Int64) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity((data?.count ?? 0) * 4 / 3 + texts.count(.type) + 128)
        out.append("{\"type\":\"")
        texts.appendJSON(.type, to: &out)
        out.append("\",\"timestamp\":\"")
        if texts.has(.time) { texts.appendJSON(.time, to: &out) } else { Timestamp.append(milliseconds: accepted, to: &out) }
        out.append("\"")
        appendData(texts, data, to: &out, absent: ",\"data\":null")
        out.append("}")
        return out
    }

    private static func structured(_ texts: HeaderTexts, _ data: UnsafeRawBufferPointer?) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity((data?.count ?? 0) * 4 / 3 + 512)
        out.append("{\"specversion\":\"1.0\"")
        func add(_ name: StaticString, _ field: HeaderField) {
            guard texts.has(field) || field.absent != nil else { return }
            out.append(name)
            texts.appendJSON(field, to: &out)
            out.append("\"")
        }
        add(",\"id\":\"", .eventID)
        add(",\"source\":\"", .source)
        add(",\"type\":\"", .type)
        add(",\"time\":\"", .time)
        add(",\"subject\":\"", .subject)
        add(",\"tenant\":\"", .tenant)
        add(",\"datacontenttype\":\"", .contentType)
        appendData(texts, data, to: &out, absent: "")
        out.append("}")
        return out
    }

    private static func appendData(
        _ texts: HeaderTexts, _ data: UnsafeRawBufferPointer?, to out: inout [UInt8], absent: StaticString
    ) {
        guard let data else { return out.append(absent) }
        // By its content type (then validity was checked when the event was read); without one, by being valid.
        if Event.isCalledJSON(texts) ?? JSONScanner.isValid(data) {
            out.append(",\"data\":")
            out.append(contentsOf: data)
        } else {
            out.append(",\"data_base64\":\"")
            Base64.append(data.bindMemory(to: UInt8.self).span, to: &out)
            out.append("\"")
        }
    }
}
