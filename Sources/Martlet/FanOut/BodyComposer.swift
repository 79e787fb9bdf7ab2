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
    public static func compose(_ event: Event, as format: Endpoint.BodyFormat, acceptedMilliseconds: Int64) -> Body {
        switch format {
        case .standard: return Body(bytes: standard(event, acceptedMilliseconds), contentType: "application/json")
        case .raw, .cloudEventsBinary: return Body(bytes: event.data ?? [], contentType: event.contentType)
        case .cloudEventsStructured: return Body(bytes: structured(event), contentType: "application/cloudevents+json; charset=utf-8")
        }
    }

    private static func standard(_ event: Event, _ accepted: Int64) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity((event.data?.count ?? 0) * 4 / 3 + event.type.utf8.count + 128)
        out += "{\"type\":".utf8
        appendJSONString(event.type, to: &out)
        out += ",\"timestamp\":".utf8
        appendJSONString((event.time ?? Timestamp.text(milliseconds: accepted)), to: &out)
        appendData(event, to: &out, absent: ",\"data\":null")
        out.append(UInt8(ascii: "}"))
        return out
    }

    private static func structured(_ event: Event) -> [UInt8] {
        var out: [UInt8] = Array("{\"specversion\":\"1.0\"".utf8)
        func add(_ name: String, _ value: String?) {
            guard let value else { return }
            out += ",\"\(name)\":".utf8
            appendJSONString(value, to: &out)
        }
        add("id", event.id)
        add("source", event.source)
        add("type", event.type)
        add("time", event.time)
        add("subject", event.subject)
        add("tenant", event.tenant)
        add("datacontenttype", event.contentType)
        appendData(event, to: &out, absent: "")
        out.append(UInt8(ascii: "}"))
        return out
    }

    private static func appendData(_ event: Event, to out: inout [UInt8], absent: String) {
        guard let data = event.data else {
            out += absent.utf8
            return
        }
        if isJSON(event, data) {
            out += ",\"data\":".utf8
            out += data
        } else {
            out += ",\"data_base64\":\"".utf8
            out += Base64Text.encode(data).utf8
            out.append(UInt8(ascii: "\""))
        }
    }

    /// By its content type (then validity was checked when the event was decoded); without one, by being valid.
    private static func isJSON(_ event: Event, _ data: [UInt8]) -> Bool {
        if let type = event.contentType { return Event.isJSON(contentType: type) }
        return data.withUnsafeBytes { JSONScanner.isValid($0) }
    }
}
