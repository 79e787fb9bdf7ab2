import JSON
import Testing

struct JSONTests {
    static func isValid(_ text: [UInt8]) -> Bool { text.withUnsafeBytes { JSONScanner.isValid($0) } }

    /// Strings are looked at eight bytes at a time: each byte, at each place of them, alone and before and behind one that ends the string or is
    /// multibyte.
    @Test func eachByteAtEachPlaceOfAString() {
        for byte in UInt8.min...UInt8.max {
            for place in 0..<20 {
                var text = [UInt8](repeating: UInt8(ascii: "a"), count: 20)
                text[place] = byte
                let isPlain = byte >= 0x20 && byte < 0x80 && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\")
                #expect(Self.isValid([0x22] + text + [0x22]) == isPlain, "\(byte) at \(place)")
                // What stands behind it must not hide it, nor what stands before it.
                #expect(Self.isValid([0x22] + text + [0xc3, 0xa4, 0x22]) == isPlain, "\(byte) at \(place), before ä")
                #expect(Self.isValid([0x22, 0xc3, 0xa4] + text + [0x22]) == isPlain, "\(byte) at \(place), behind ä")
                #expect(!Self.isValid([0x22] + text + [0x01, 0x22]), "\(byte) at \(place), before a control")
            }
        }
    }

    @Test(arguments: [
        "null", " true ", "false", "0", "-0", "1.5e+10", "1E400", "\"\"", "\"\\u00e4\\n\\\"\"", "[]", "[1,[2,{\"a\":[]}]]", "{}",
        "{\"a\":1,\"b\":{}}", "\"ä€😀\"",
        "\t\r\n{ \"a\" : 1 }",
    ])
    func acceptsJSON(_ text: String) { #expect(Self.isValid(Array(text.utf8))) }

    @Test(arguments: [
        "", " ", "nul", "True", "01", "-", "1.", ".5", "1e", "+1", "\"", "\"\\x\"", "\"\\u12\"", "[", "[1,]", "[1 2]", "{", "{\"a\"}",
        "{\"a\":}", "{a:1}", "{\"a\":1,}",
        "1 2", "\"a\nb\"", "'a'", "NaN", "[1}", "\u{feff}1",
    ])
    func refusesOtherThings(_ text: String) { #expect(!Self.isValid(Array(text.utf8))) }

    @Test(
        arguments: [
            [0x22, 0xff, 0x22], [0x22, 0xc0, 0x80, 0x22], [0x22, 0xed, 0xa0, 0x80, 0x22], [0x22, 0xf4, 0x90, 0x80, 0x80, 0x22],
            [0x22, 0xe2, 0x82, 0x22],
        ] as [[UInt8]])
    func refusesBadUTF8(_ bytes: [UInt8]) { #expect(!Self.isValid(bytes)) }

    /// Eight bytes are passed over at once: any byte at any place among plain ones is still seen.
    @Test func seesEveryByteOfAString() {
        for before in 0...17 {
            for byte in UInt8.min...UInt8.max {
                let text = [0x22] + Array(repeating: 0x61, count: before) + [byte] + Array(repeating: 0x7a, count: 9) + [0x22]
                #expect(Self.isValid(text) == (byte >= 0x20 && byte < 0x80 && byte != 0x22 && byte != 0x5c), "\(byte) behind \(before)")
            }
        }
    }

    @Test func boundsItsDepth() {
        func nested(_ depth: Int) -> [UInt8] { Array((String(repeating: "[", count: depth) + String(repeating: "]", count: depth)).utf8) }
        #expect(Self.isValid(nested(256)))
        #expect(!Self.isValid(nested(257)))
        #expect(!Self.isValid(nested(1_000_000)))
        #expect(throws: JSONValue.ParseError.self) { try JSONValue.parse(nested(100_000)) }
    }

    @Test func keepsOrderAndTheTextOfNumbers() throws {
        let text = "{\"z\":1.10,\"a\":12345678901234567890,\"m\":[true,null,\"\\u00e4\"]}"
        let value = try JSONValue.parse(text)
        #expect(value.text == "{\"z\":1.10,\"a\":12345678901234567890,\"m\":[true,null,\"ä\"]}")
        #expect(value["m"]?.arrayValue?.count == 3)
        #expect(value["a"]?.intValue == nil)
    }

    @Test func unescapes() throws {
        #expect(try JSONValue.parse("\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\ud83d\\ude00\"").stringValue == "a\"\\/\u{8}\u{c}\n\r\tA😀")
        #expect(try JSONValue.parse("\"\\ud83d\"").stringValue == "\u{fffd}")
        #expect(try JSONValue.parse("\"\\ude00x\"").stringValue == "\u{fffd}x")
    }

    @Test func writesWhatItCanRead() throws {
        let value = JSONValue.object([
            .init("k\n\"", "\u{1}\\\t"), .init("n", .integer(-5)), .init("e", .array([])), .init("o", .object([])),
        ])
        #expect(try JSONValue.parse(value.text) == value)
        #expect(try JSONValue.parse(value.prettyText) == value)
    }

    /// Texts are looked at eight bytes at a time: of each length, with each byte at each place.
    @Test func escapesWhereverItIsNeeded() throws {
        for count in 0...20 {
            for place in 0..<max(1, count) {
                for byte in UInt8.min...0x7f {
                    var bytes = Array(repeating: UInt8(ascii: "x"), count: count)
                    if count > 0 { bytes[place] = byte }
                    var out: [UInt8] = []
                    appendJSONText(bytes.span, to: &out)
                    let isOdd = count > 0 && (byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\"))
                    guard (out != bytes) == isOdd, !out.contains(where: { $0 < 0x20 }) else {
                        Issue.record("byte \(byte) at \(place) of \(count)")
                        return
                    }
                    let text = String(decoding: bytes, as: UTF8.self)
                    if isOdd { #expect(try JSONValue.parse("\"" + String(decoding: out, as: UTF8.self) + "\"").stringValue == text) }
                    var whole: [UInt8] = []
                    appendJSONString(text, to: &whole)
                    guard whole == [UInt8(ascii: "\"")] + out + [UInt8(ascii: "\"")] else {
                        Issue.record("with quotes: byte \(byte) at \(place) of \(count)")
                        return
                    }
                }
            }
        }
        var out: [UInt8] = []
        appendJSONText(Array("größer als 8".utf8).span, to: &out)
        #expect(String(decoding: out, as: UTF8.self) == "größer als 8")
    }

    @Test func refusesDuplicateNames() { #expect(throws: JSONValue.ParseError.self) { try JSONValue.parse("{\"a\":1,\"a\":2}") } }

    @Test func setsAndRemovesMembers() {
        var value = JSONValue.object([.init("a", .integer(1))])
        value["b"] = "x"
        value["a"] = nil
        #expect(value.text == "{\"b\":\"x\"}")
    }

    @Test func neverCrashesOnMutations() {
        var state: UInt64 = 42
        let seed = Array("{\"a\":[1,2.5e3,\"\\u00e4\\n\",{\"b\":null}],\"c\":true}".utf8)
        for _ in 0..<20_000 {
            var bytes = seed
            for _ in 0..<3 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                bytes[Int(state >> 33) % bytes.count] = UInt8(truncatingIfNeeded: state >> 24)
            }
            // Scanner and parser agree, duplicate names aside.
            if (try? JSONValue.parse(bytes)) != nil { #expect(Self.isValid(bytes)) }
        }
    }
}
